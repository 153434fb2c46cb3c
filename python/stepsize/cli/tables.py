"""A table of numbers and categories as a problem with a built-in network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsize.cli.dates import looks_like_a_date
from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import has_leading_zero, is_gap
from stepsize.cli.preparation import Column, encode, moments, numbers_of
from stepsize.cli.reading import read_table
from stepsize.cli.schema import (
    column_of,
    decimals_of,
    first_of,
    note_capitals,
    note_codes,
    note_notation,
    spelled,
    unit_of_column,
)
from stepsize.cli.strange import few, listed
from stepsize.cli.table import Table
from stepsize.cli.units import take_unit
from stepsize.names import nearest
from stepsize.problems import Problem, classifier, regressor
from stepsize.validation import counted

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["Prepared", "load_table"]

FEW_NUMBERS = 20  # a target of at most so many different whole numbers is one of classes
LEAST_ROWS = 8
_COPIES = 0.1  # of the held-out rows


@dataclass
class Prepared:
    """A problem made of a table, and how its inputs and answers were made."""

    problem: Problem
    columns: list[Column]
    target: Column
    classes: tuple[str, ...]
    notes: list[str]


def load_table(
    path: Path,
    target: str | None,
    hidden: Sequence[int],
    drop: Sequence[str],
    seed: int,
    task: str = "auto",
    decimal: str | None = None,
    encoding: str | None = None,
) -> Prepared:
    """The problem of predicting column `target` from the others, and notes on what was decided.

    Numbers are scaled to mean 0 and deviation 1 over the training rows; words become one column of
    0 and 1 each. A target of words, or of at most 20 different whole numbers, is sorted into
    classes; any other is predicted as a number. `task` says otherwise.
    """
    target = target if target is None else " ".join(target.split())
    drop = [" ".join(name.split()) for name in drop]
    table = read_table(path, [] if target is None else [target], encoding=encoding)
    _check_names(table, target, drop)
    assert target is not None
    table.frame = table.frame.drop(columns=list(dict.fromkeys(drop)))
    _take_units(table, target, task)
    decimals = decimals_of(table, decimal)
    answer = _answer(table, target, task, decimals[target])
    others = [name for name in table.frame.columns if name != target]
    found = [column_of(table, name, decimals[name]) for name in others]
    columns = [column for column in found if column is not None]
    if not columns:
        why = f" ({'; '.join(table.notes)})" if others else ""
        raise CommandError(f"{path} holds no column to predict {target} from{why}")
    y = _targets(table, answer)
    _note_leaks(table, columns, answer, y)
    problem = _scaled(table, columns, answer, y, tuple(hidden), seed)
    return Prepared(problem, columns, answer, answer.words, table.notes)


def _check_names(table: Table, target: str | None, drop: Sequence[str]) -> None:
    names = [str(name) for name in table.frame.columns]
    if target is None or target not in names:
        asked = "give --target" if target is None else f"there is no column {target!r}"
        close = nearest(target, names) if target else []
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise CommandError(f"{asked}{hint}; the columns of {table.path} are: {_some(names)}")
    for name in drop:
        if name not in names:
            raise CommandError(f"--drop {name}: the columns are: {_some(names)}")
        if name == target:
            raise CommandError(f"--drop {name}: it is the target")


def _some(names: Sequence[str]) -> str:
    """Names for a message, of thousands a few."""
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return ", ".join(name[:60] for name in names[:30]) + more


def _take_units(table: Table, target: str, task: str) -> None:
    """Take units off the numbers of columns; a target of few different cells keeps its words."""
    for name in list(table.frame.columns):
        many = table.frame[name].nunique() > FEW_NUMBERS and task == "auto"
        if name != target or many or task == "regression":
            take_unit(table, name)


def _answer(table: Table, name: str, task: str, decimal: str) -> Column:
    """What the target is; rows without it are left out of the table."""
    cells, column = table.frame[name], Column(name, decimal)
    numbers = numbers_of(cells, decimal)
    gaps = cells.map(is_gap)
    odd = numbers.isna() & ~gaps
    words = cells[odd].map(str).unique()
    strange = few(odd, words, gaps & False) and numbers.nunique() > 3
    if odd.any() and (strange or task == "regression"):
        place = table.place(first_of(odd))
        if task == "regression" and not strange:
            raise CommandError(
                f"--task regression: {name} holds {str(cells.iloc[first_of(odd)])!r:.40} "
                f"({place}), which is no number"
            )
        table.notes.append(
            f"{name}: {listed(table, name, odd)} "
            f"{'is no number' if len(words) == 1 else 'are no numbers'}"
        )
        gaps |= odd
        odd &= False
    if odd.any() and task == "auto" and numbers.nunique() > FEW_NUMBERS:
        place = table.place(first_of(odd))
        raise CommandError(
            f"{name} holds {numbers.nunique()} different numbers and {counted(odd.sum(), 'cell')} "
            f"that {'is' if odd.sum() == 1 else 'are'} none, the first is {str(words[0])!r:.40} "
            f"({place}): write numbers there, or leave them empty; --task classification takes "
            "all of them as classes"
        )
    if not odd.any():
        column.unit = unit_of_column(table, name, numbers)
        note_notation(table, name, decimal)
        note_codes(table, column, numbers)
    numbers = column.numbers(cells) if column.codes else numbers
    lost = gaps | (numbers.isna() & ~odd)
    if lost.any():
        table.notes.append(
            f"{counted(lost.sum(), 'row')} without {name} left out{spelled(cells[lost])}"
        )
        table.lines = [line for line, gap in zip(table.lines, lost, strict=True) if not gap]
        table.frame = table.frame[~lost].reset_index(drop=True)
        numbers, odd = numbers[~lost], odd[~lost]
    rows = len(table.frame)
    if rows < LEAST_ROWS:
        raise CommandError(
            f"{table.path} has {counted(rows, 'usable row')}, too few to train and validate on; "
            f"give {LEAST_ROWS} or more"
        )
    whole = not odd.any() and bool((numbers == numbers.round()).all())
    if task == "regression" or (task == "auto" and not odd.any() and not whole):
        return column
    whole = whole and not table.frame[name].map(has_leading_zero).any()
    if task == "auto" and whole and numbers.nunique() > FEW_NUMBERS:
        table.notes.append(
            f"{name} holds {numbers.nunique()} whole numbers, predicted as a number "
            "(--task classification makes them classes)"
        )
        return column
    return _classes(table, column, whole, task)


def _classes(table: Table, column: Column, whole: bool, task: str) -> Column:
    labels = _labels(table.frame[column.name], column.decimal)
    kinds = list(dict.fromkeys(labels))
    kinds.sort(key=(lambda kind: (float(kind), kind)) if whole else (lambda kind: (0.0, kind)))
    rows = len(labels)
    if len(kinds) < 2 or (len(kinds) > rows // 2 and task == "auto"):
        dates = "; it holds dates or times" if looks_like_a_date(kinds[0]) else ""
        raise CommandError(
            f"the target has {counted(len(kinds), 'different value')} in {counted(rows, 'row')}: "
            f"neither classes nor numbers to predict{dates}; choose another with --target"
        )
    table.notes.append(f"{len(kinds)} classes: {_listed(kinds)}")
    note_capitals(table, "classes", kinds)
    if whole and task == "auto":
        table.notes.append("whole numbers are taken as classes (--task regression predicts them)")
    single = [kind for kind, count in Counter(labels).items() if count == 1]
    if single:
        places = ", ".join(f"{k!r:.30} ({table.place(labels.index(k))})" for k in single[:3])
        table.notes.append(
            f"{counted(len(single), 'class')} of one row: {places}{', ...' if single[3:] else ''}; "
            "a class needs several, to train on and to judge by"
        )
    column.words = tuple(kinds)
    return column


def _labels(cells: Series, decimal: str) -> list[str]:
    """The names of classes: whole numbers digit by digit, so that no two of them become one."""
    labels = []
    coded = bool(cells.map(has_leading_zero).any())  # 007 is not the class 7
    for cell, number in zip(cells, numbers_of(cells, decimal), strict=True):
        text = str(cell)
        if coded:
            pass
        elif re.fullmatch(r"[+-]?\d+", text):
            text = str(int(text)) if len(text) < 1000 else text
        elif number == number and float(number).is_integer():
            text = str(int(number))
        labels.append(text)
    return labels


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(kind[:30] for kind in kinds[:10]) + (", ..." if len(kinds) > 10 else "")


def _targets(table: Table, answer: Column) -> NDArray[Any]:
    cells = table.frame[answer.name]
    if answer.words:
        index = {word: i for i, word in enumerate(answer.words)}
        return np.array([index[label] for label in _labels(cells, answer.decimal)])
    values = numbers_of(cells, answer.decimal).to_numpy(np.float64)
    answer.mean, answer.deviation = moments(numbers_of(cells, answer.decimal))
    table.notes.append(f"the loss is in units of the target's deviation, {answer.deviation:.4g}")
    scaled: NDArray[Any] = (values - answer.mean) / answer.deviation
    return scaled


def _note_leaks(table: Table, columns: list[Column], answer: Column, y: NDArray[Any]) -> None:
    """Say which columns hold the target itself, in other units or by other names."""
    import pandas

    for column in columns:
        cells = table.frame[column.name]
        inputs = column.encode(cells)
        x = inputs.argmax(axis=1) if column.words else inputs[:, 0]
        if not answer.words:
            same = not column.words and _is_line(x, y)
        else:
            pairs = len(set(zip(x.tolist(), y.tolist(), strict=True)))
            kinds = (pandas.Series(x).nunique(), len(answer.words))
            same = pairs == kinds[0] == kinds[1]
        if same:
            table.notes.append(
                f"column {column.name} tells {answer.name} in every row; if it is not known before "
                f"the answer, leave it out: --drop {column.name}"
            )


def _is_line(x: NDArray[Any], y: NDArray[Any]) -> bool:
    """Whether y is a x + b, up to rounding."""
    with np.errstate(over="ignore"):  # what has no deviation is no line
        spread = float(x.std()) * float(y.std())
    if not spread > 0 or not np.isfinite(spread):
        return False
    return bool(abs(float(np.mean((x - x.mean()) * (y - y.mean())))) > (1 - 1e-9) * spread)


def _note_gaps(table: Table, columns: list[Column]) -> None:
    """Say with what the gaps of columns of numbers are filled."""
    for column in columns:
        cells = table.frame[column.name]
        gaps = column.numbers(cells).isna()
        if column.words or not gaps.any():
            continue
        what = f"the median {column.fill:.6g}" if column.fill is not None else "0: no row to train"
        table.notes.append(
            f"column {column.name}: {counted(gaps.sum(), 'gap')} filled with {what}"
            f"{spelled(cells[cells.map(is_gap)])}"
        )


def _note_copies(
    table: Table, x: NDArray[Any], y: NDArray[Any], train: NDArray[Any], held_out: NDArray[Any]
) -> None:
    """Say that many of the held-out rows are copies of training rows, which they should judge."""
    rows = [(a.tobytes(), b.tobytes()) for a, b in zip(x, y, strict=True)]
    seen = {rows[i] for i in train}
    copies = sum(rows[i] in seen for i in held_out)
    if copies >= _COPIES * len(held_out):
        table.notes.append(
            f"{copies} of {counted(len(held_out), 'held-out row')} stand among the training rows "
            "as well: the figures of held-out rows may be too good"
        )


def _scaled(
    table: Table,
    columns: list[Column],
    answer: Column,
    y: NDArray[Any],
    hidden: tuple[int, ...],
    seed: int,
) -> Problem:
    """The network and its rows, the inputs scaled by what the training rows alone say."""
    rows = np.arange(len(table.frame), dtype=np.float64)[:, None]
    make = classifier if answer.words else regressor
    split = make(rows, y, hidden=hidden, seed=seed, name=table.path.stem)
    train, held_out = (part[0][:, 0].astype(int) for part in (split.train, split.validation))
    for column in columns:
        column.fit(table.frame[column.name].iloc[train])
    _note_gaps(table, columns)
    x = encode(columns, table.frame)
    if len(columns) > 1:  # a number alone is in many rows
        _note_copies(table, x, y, train, held_out)
    problem = make(x, y, hidden=hidden, seed=seed, name=table.path.stem)
    return replace(
        problem,
        train=(x[train], split.train[1]),
        validation=(x[held_out], split.validation[1]),
    )
