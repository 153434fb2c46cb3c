"""Predictions for a new table, by the network that `stepsize train --save` wrote."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import is_gap, notation_of
from stepsize.cli.preparation import Column, encode, numbers_of
from stepsize.cli.reading import Table, read_table
from stepsize.cli.tables import Prepared
from stepsize.errors import CheckpointError
from stepsize.problems.networks import mlp_forward
from stepsize.serialization import container, nested
from stepsize.training.saving import KIND
from stepsize.validation import counted

__all__ = ["predict", "to_extra"]


@dataclasses.dataclass
class Model:
    """A trained network, and how its inputs and answers are made."""

    params: dict[str, Any]
    columns: list[Column]
    target: Column


def to_extra(prepared: Prepared) -> dict[str, Any]:
    """What `predict` needs to know of the table, to keep beside the parameters."""
    columns = [dataclasses.asdict(column) for column in prepared.columns]
    return {"table": {"columns": columns, "target": dataclasses.asdict(prepared.target)}}


def predict(model: Path, table: Path, out: Path | None, decimal: str | None) -> list[str]:
    """Write a prediction for each row, to a file or to standard output; notes on what was done."""
    known = _load(model, table)
    names = [column.name for column in known.columns]
    rows = read_table(table, [*names, known.target.name])
    for name in names:
        if name not in rows.frame.columns:
            there = ", ".join(map(str, rows.frame.columns))
            raise CommandError(f"{rows.path} has no column {name!r}; it has {there}")
    columns = [_fitted(rows, column, decimal) for column in known.columns]
    scores = mlp_forward(known.params, encode(columns, rows.frame))[-1]
    header, lines = _answers(known.target, scores)
    if out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *lines])
    else:
        with out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *lines])
    return rows.notes


def _load(path: Path, table_path: Path) -> Model:
    if path.is_file() and not container.is_ours(path) and container.is_ours(table_path):
        raise CommandError(
            f"{path} is not a checkpoint of stepsize, but {table_path} is: they may be swapped; "
            "it is stepsize predict MODEL TABLE"
        )
    saved = nested.load(path, KIND)
    extra = saved.get("extra")
    table = extra.get("table") if isinstance(extra, Mapping) else None
    if table is None:
        raise CommandError(
            f"{path} does not say how a table becomes inputs; save one with "
            "stepsize train TABLE --target COLUMN --save FILE"
        )
    try:
        columns = [_column(each) for each in table["columns"]]
        target = _column(table["target"])
        params = _network(saved["params"])
        _check_sizes(params, columns, target)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its table does not fit its network ({error})") from None
    return Model(params, columns, target)


def _column(saved: Mapping[str, Any]) -> Column:
    column = Column(**{**saved, "words": tuple(map(str, saved["words"]))})
    numbers = (column.mean, column.deviation)
    if not isinstance(column.name, str) or column.decimal not in (".", ","):
        raise ValueError(f"column {column.name!r} with decimal sign {column.decimal!r}")
    if not all(isinstance(n, float) and np.isfinite(n) for n in numbers) or column.deviation <= 0:
        raise ValueError(f"column {column.name} has mean and deviation {numbers}")
    return column


def _network(saved: Mapping[str, Any]) -> dict[str, Any]:
    count = len(saved) // 2
    layers = [{key: saved[f"layers/{i}/{key}"] for key in "wb"} for i in range(count)]
    if not layers or len(saved) != 2 * count:
        raise ValueError("its parameters are not those of a network")
    return {"layers": layers}


def _check_sizes(params: Mapping[str, Any], columns: list[Column], target: Column) -> None:
    size = sum(len(column.words) or 1 for column in columns)
    for i, layer in enumerate(params["layers"]):
        w, b = layer["w"], layer["b"]
        if w.ndim != 2 or w.shape[0] != size or b.shape != w.shape[1:]:
            raise ValueError(f"layer {i} has shapes {w.shape} and {b.shape} for {size} inputs")
        size = w.shape[1]
    if size != (len(target.words) or 1):
        raise ValueError(f"{size} outputs for {len(target.words) or 1} answers")


def _fitted(table: Table, column: Column, decimal: str | None) -> Column:
    """The column with the decimal sign of this table; notes on cells that are new."""
    cells, notes = table.frame[column.name], table.notes
    if column.words:
        new = cells.map(str)[~cells.map(str).isin(column.words)]
        if len(new):
            notes.append(
                f"column {column.name}: {counted(len(new), 'cell')} with words that were not "
                f"trained on, such as {new.iloc[0]!r:.40} ({table.place(int(new.index[0]))})"
            )
        return column
    signs = [sign for sign in notation_of(cells) if sign in ".,"]
    sign = decimal or (signs[0] if len(signs) == 1 else column.decimal)
    fitted = dataclasses.replace(column, decimal=sign)
    odd = numbers_of(cells, sign).isna()
    if odd.any():
        first = int(np.flatnonzero(odd)[0])
        cell = "a gap" if is_gap(cells.iloc[first]) else repr(str(cells.iloc[first]))[:40]
        notes.append(
            f"column {column.name}: {counted(odd.sum(), 'cell')} without a number, the first is "
            f"{cell} ({table.place(first)}); taken as the mean"
        )
    return fitted


def _answers(target: Column, scores: NDArray[Any]) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows: a class and its probability, or a number."""
    if not target.words:
        values = scores[:, 0].astype(np.float64) * target.deviation + target.mean
        return [target.name], [[f"{value:.6g}"] for value in values]
    shifted = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    best = shares.argmax(axis=1)
    rows = [
        [target.words[k], f"{share[k]:.4f}"] for k, share in zip(best.tolist(), shares, strict=True)
    ]
    return [target.name, "probability"], rows
