"""A table of numbers and words as a problem with a built-in network."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.errors import CommandError
from stepsize.problems import Problem, classifier, regressor

__all__ = ["ENDINGS", "load_table"]

ENDINGS = (".csv", ".npz", ".parquet")
MOST_WORDS = 50
Columns = dict[str, list[Any]]


def load_table(
    path: Path, target: str | None, hidden: Sequence[int], drop: Sequence[str], seed: int
) -> tuple[Problem, list[str]]:
    """The problem of predicting column `target` from the others, and notes on what was done.

    Numbers are scaled to mean 0 and deviation 1 over the training rows; words become one column of
    0 and 1 each. A target of words, or of at most 20 different whole numbers, is sorted into
    classes; any other is predicted as a number.
    """
    if not path.is_file():
        raise CommandError(f"no such file: {path}")
    columns = {".csv": _csv, ".npz": _npz, ".parquet": _parquet}[path.suffix.lower()](path)
    if target is None or target not in columns:
        asked = "give --target" if target is None else f"there is no column {target!r}"
        raise CommandError(f"{asked}; the columns of {path} are: {', '.join(columns)}")
    for name in drop:
        if name not in columns:
            raise CommandError(f"--drop {name}: the columns are: {', '.join(columns)}")
    notes: list[str] = []
    y_words = columns.pop(target)
    kept = [i for i, value in enumerate(y_words) if not _missing(value)]
    if len(kept) < len(y_words):
        notes.append(f"{len(y_words) - len(kept)} rows without {target} left out")
    if len(kept) < 8:
        raise CommandError(f"{path} has {len(kept)} usable rows, too few to train and validate on")
    features = [
        block
        for name, values in columns.items()
        if name not in drop
        for block in _features(name, [values[i] for i in kept], notes)
    ]
    if not features:
        raise CommandError(f"{path} holds no column to predict {target} from")
    x = np.column_stack(features).astype(np.float32)
    y = [y_words[i] for i in kept]
    problem = _problem(x, y, hidden, seed, path.stem, notes)
    return _scaled(problem), notes


def _problem(
    x: NDArray[Any], y: list[Any], hidden: Sequence[int], seed: int, name: str, notes: list[str]
) -> Problem:
    numbers = [_number(value) for value in y]
    whole = all(v is not None and float(v).is_integer() for v in numbers)
    if not whole and all(v is not None for v in numbers):
        values = np.array(numbers, np.float32)
        deviation = float(values.std()) or 1.0
        notes.append(f"the loss is in units of the target's deviation, {deviation:.4g}")
        scaled = (values - values.mean()) / deviation
        return regressor(x, scaled, hidden=hidden, seed=seed, name=name)
    words = [f"{v:g}" for v in numbers if v is not None] if whole else [str(v) for v in y]
    classes, labels = np.unique(words, return_inverse=True)
    if whole and len(classes) > 20:
        return _problem(x, [float(v) + 1e-9 for v in y], hidden, seed, name, notes)
    if len(classes) < 2 or len(classes) > len(y) // 2:
        raise CommandError(
            f"the target has {len(classes)} different values in {len(y)} rows: "
            "neither classes nor numbers to predict"
        )
    notes.append(f"{len(classes)} classes: {', '.join(classes[:10])}")
    return classifier(x, labels, hidden=hidden, seed=seed, name=name)


def _scaled(problem: Problem) -> Problem:
    """Columns to mean 0 and deviation 1, both measured on the training rows alone."""
    x, y = problem.train
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation == 0] = 1
    held_out, y_held_out = problem.validation
    return replace(
        problem,
        train=((x - mean) / deviation, y),
        validation=((held_out - mean) / deviation, y_held_out),
    )


def _features(name: str, values: list[Any], notes: list[str]) -> list[NDArray[Any]]:
    missing = [_missing(value) for value in values]
    numbers = [math.nan if gap else _number(v) for v, gap in zip(values, missing, strict=True)]
    if all(v is not None for v in numbers):
        column = np.array(numbers, float)
        if np.isnan(column).all():
            notes.append(f"column {name} is empty, left out")
            return []
        if any(missing):
            notes.append(f"{sum(missing)} gaps in {name} filled with its mean")
        return [np.where(np.isnan(column), np.nanmean(column), column)]
    words = np.array([str(value) for value in values])
    kinds = np.unique(words)
    if len(kinds) > MOST_WORDS:
        raise CommandError(
            f"column {name} holds {len(kinds)} different words; leave it out with --drop {name}"
        )
    return [(words == kind).astype(float) for kind in kinds]


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "na", "n/a", "nan", "null", "none", "?")
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        start = file.read(65536)
        file.seek(0)
        try:
            dialect: Any = csv.Sniffer().sniff(start, delimiters=",;\t|")
        except csv.Error:
            dialect = csv.excel
        rows = [row for row in csv.reader(file, dialect) if row]
    if len(rows) < 2:
        raise CommandError(f"{path} holds no rows below its header")
    header, *body = rows
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise CommandError(f"{path} line {number}: {len(row)} cells, expected {len(header)}")
    return {name.strip(): [row[i] for row in body] for i, name in enumerate(header)}


def _npz(path: Path) -> Columns:
    columns: Columns = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name, array in arrays.items():
            flat = array.reshape(len(array), -1)
            for i in range(flat.shape[1]):
                columns[name if array.ndim == 1 else f"{name}{i}"] = flat[:, i].tolist()
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise CommandError(f"the arrays of {path} differ in length: {lengths}")
    return columns


def _parquet(path: Path) -> Columns:
    try:
        from pandas import read_parquet
    except ImportError as error:
        raise CommandError("reading parquet needs pandas: pip install pandas pyarrow") from error
    table = read_parquet(path)
    return {str(name): table[name].tolist() for name in table.columns}
