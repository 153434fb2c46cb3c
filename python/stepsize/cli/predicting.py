"""Predictions for a new table, by the network that `stepsize train --save` wrote."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.dates import FORMS
from stepsize.cli.errors import CommandError, FileError, RunError
from stepsize.cli.matching import fitted
from stepsize.cli.numerals import is_gap
from stepsize.cli.preparation import GAP, Column, encode
from stepsize.cli.reading import read_table
from stepsize.cli.streams import output, write_out
from stepsize.cli.table import Table
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


def predict(
    model: Path,
    table: Path,
    out: Path | None,
    decimal: str | None,
    as_json: bool = False,
    encoding: str | None = None,
) -> list[str]:
    """Write a prediction for each row, to a file or to standard output; notes on what was done.

    A row without any value that the model uses gets an empty answer, so that answers and rows have
    the same numbers.
    """
    known = _load(model, table)
    if out is not None:
        _check_out(out, _answers(known.target, np.zeros((0, 2)))[0])
    names = [column.name for column in known.columns]
    rows = read_table(table, [*names, known.target.name], keep_blank=True, encoding=encoding)
    for name in names:
        if name not in rows.frame.columns:
            there = ", ".join(map(str, rows.frame.columns))
            raise CommandError(f"{rows.path} has no column {name!r}; it has {there}")
    _find_bare(rows, known.columns)
    full = _without_blank(rows)
    columns = fitted(full, known.columns, decimal)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = mlp_forward(known.params, encode(columns, full.frame))[-1]
    for line, row in zip(full.lines, np.isfinite(scores.reshape(len(scores), -1)), strict=True):
        if not row.all():
            raise CommandError(
                f"{rows.path}, line {line}: there is no finite answer, since a number is too large "
                "for the network; correct the row or leave it out"
            )
    header, lines = _answers(known.target, scores)
    for row in rows.blank:
        lines.insert(row, [""] * len(header))
    notes = list(dict.fromkeys([*rows.notes, *full.notes]))
    if as_json:
        named = [dict(zip(header, line, strict=True)) for line in lines]
        answers = [{"line": n, **row} for n, row in zip(rows.lines, named, strict=True)]
        text = json.dumps({"answers": answers, "decisions": notes}, indent=2) + "\n"
    else:
        written = io.StringIO()
        csv.writer(written, lineterminator="\n" if out is None else "\r\n").writerows(
            [header, *lines]
        )
        text = written.getvalue()
    _write(text, out)
    return notes


def _check_out(out: Path, header: list[str]) -> None:
    """Refuse to write over a file that does not begin as answers of this model do."""
    if not out.is_file() or not out.stat().st_size:
        return
    with out.open("rb") as file:
        head = file.read(4096).decode("utf-8", "replace")
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(header)
    first, _, rest = head.replace("\r\n", "\n").partition("\n")
    if first + "\n" != written.getvalue() and not (first == "{" and '"answers": [' in rest[:40]):
        raise FileError(
            f"--out {out}: there is a file that holds no answers of this model, and it would be "
            "lost; give another path, or move that file away"
        )


def _find_bare(rows: Table, columns: list[Column]) -> None:
    """Add rows that hold nothing that the model uses, such as a number alone, to the blank ones."""
    if any(GAP in column.words for column in columns):
        return  # a gap is a word that was trained on
    gaps = rows.frame[[column.name for column in columns]].map(is_gap).all(axis=1)
    bare = sorted(set(np.flatnonzero(gaps).tolist()) - set(rows.blank))
    if bare:
        places = ", ".join(rows.place(row) for row in bare[:5]) + (", ..." if bare[5:] else "")
        rows.notes.append(
            f"no value in the columns that the model uses in {counted(len(bare), 'row')} "
            f"({places}): an empty answer"
        )
        rows.blank = sorted([*rows.blank, *bare])


def _without_blank(rows: Table) -> Table:
    """The rows that hold something; CommandError where there is none."""
    if not rows.blank:
        return rows
    kept = [row for row in range(len(rows.lines)) if row not in set(rows.blank)]
    if not kept:
        raise CommandError(
            f"{rows.path} holds no value below its header"
            + ("" if not any(rows.frame.map(bool).any()) else " in the columns that the model uses")
        )
    frame = rows.frame.iloc[kept].reset_index(drop=True)
    return dataclasses.replace(rows, frame=frame, lines=[rows.lines[row] for row in kept], blank=[])


def _write(text: str, out: Path | None) -> None:
    if out is not None:
        out.write_text(text, encoding="utf-8", newline="")
        return
    encoding = getattr(output(), "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise RunError(
            f"the answers hold {text[error.start]!a}, which the encoding of the output, "
            f"{encoding}, has no sign for: write them to a file with --out FILE, or set "
            "PYTHONIOENCODING=utf-8"
        ) from None
    write_out(text)


def _load(path: Path, table_path: Path) -> Model:
    if path.is_file() and not container.is_ours(path) and container.is_ours(table_path):
        raise FileError(
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
    kept: dict[str, Any] = {
        "words": tuple(map(str, saved["words"])),
        "codes": tuple(saved.get("codes", ())),
    }
    if isinstance(saved["name"], str):
        kept["name"] = " ".join(saved["name"].split())  # as those of tables are
    column = Column(**{**saved, **kept})
    numbers = (column.mean, column.deviation, column.low, column.high, *column.codes)
    if not isinstance(column.name, str) or column.decimal not in (".", ","):
        raise ValueError(f"column {column.name!r} with decimal sign {column.decimal!r}")
    if not all(isinstance(n, float) and np.isfinite(n) for n in numbers) or column.deviation <= 0:
        raise ValueError(f"column {column.name} has mean and deviation {numbers[:2]}")
    if column.fill is not None and not (
        isinstance(column.fill, float) and np.isfinite(column.fill)
    ):
        raise ValueError(f"column {column.name} fills gaps with {column.fill!r}")
    if not isinstance(column.grouped, bool):
        raise ValueError(f"column {column.name} has grouped {column.grouped!r}")
    if not isinstance(column.unit, str | None) or column.date not in ("", *FORMS):
        raise ValueError(f"column {column.name} has unit {column.unit!r} and date {column.date!r}")
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
