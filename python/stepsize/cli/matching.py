"""The columns of a new table read as those that a model was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import is_gap, notation_of, number_of
from stepsize.cli.preparation import Column, words_of
from stepsize.cli.schema import check_one_notation, first_of, note_notation, unit_of_column
from stepsize.cli.strange import listed, refuse_amounts
from stepsize.cli.table import Table
from stepsize.cli.units import take_unit
from stepsize.validation import counted

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["fitted"]


def fitted(table: Table, columns: Sequence[Column], decimal: str | None) -> list[Column]:
    """The columns with the decimal signs of this table; notes on cells that are new.

    CommandError where cells would mean something else than those that were trained on.
    """
    for column in columns:
        if _is_numeric(column):
            take_unit(table, column.name)
    proofs = {c.name: notation_of(table.frame[c.name]) for c in columns if _is_numeric(c)}
    seen = {sign for rows in proofs.values() for sign in rows if sign in ".,"}
    found = []
    for column in columns:
        cells = table.frame[column.name]
        if column.words:
            _note_new_words(table, column)
            found.append(column)
            continue
        if _is_numeric(column):
            sign = decimal or _decimal(table, column, proofs[column.name], seen)
            column = dataclasses.replace(column, decimal=sign)
        _check_numbers(table, column, column.numbers(cells))
        found.append(column)
    return found


def _is_numeric(column: Column) -> bool:
    return not column.words and not column.date


def _decimal(table: Table, column: Column, rows: Mapping[str, int], seen: set[str]) -> str:
    """The decimal sign of a column: what it proves itself, else that of the training."""
    cells, name = table.frame[column.name], column.name
    check_one_notation(table, name, rows)
    if column.grouped:
        _check_thousands(table, column, rows)
    proved = [sign for sign in rows if sign in ".,"]
    open_signs = [sign for sign in rows if sign not in ".,"]
    if not proved and open_signs and seen - {column.decimal}:
        row = rows[open_signs[0]]
        raise CommandError(
            f"column {name}: {cells.iloc[row]} ({table.place(row)}) may be written with "
            f"{column.decimal!r}, as when the model was trained, or as other columns here: say "
            "--decimal . or --decimal ,"
        )
    return proved[0] if proved else column.decimal


def _check_thousands(table: Table, column: Column, rows: Mapping[str, int]) -> None:
    """Refuse ``1.000`` and ``1,00`` where the model was trained on thousands such as ``1,000``."""
    own, other = column.decimal, "," if column.decimal == "." else "."
    cells = table.frame[column.name]
    row = None if {own, other} & set(rows) else rows.get("?" + own)
    if other in rows and not any(
        {".", ","} <= set(str(cell)) and number_of(cell, other) is not None for cell in cells
    ):
        row = rows[other]
    if row is not None:
        raise CommandError(
            f"column {column.name}: {cells.iloc[row]} ({table.place(row)}) may hold thousands or a "
            f"decimal sign: the model was trained on numbers with thousands, and {own!r} as the "
            "decimal sign; write it like those, or say --decimal . or --decimal ,"
        )


def _note_new_words(table: Table, column: Column) -> None:
    words = words_of(table.frame[column.name], column.words)
    new = ~words.isin(column.words)
    if new.any():
        table.notes.append(
            f"column {column.name}: {counted(new.sum(), 'cell')} with words that were not "
            f"trained on, {listed(table, column.name, new)}"
        )


def _check_numbers(table: Table, column: Column, numbers: Series) -> None:
    cells, name, notes = table.frame[column.name], column.name, table.notes
    lost = numbers.isna()
    coded = dataclasses.replace(column, codes=()).numbers(cells).isin(column.codes)
    odd = lost & ~cells.map(is_gap) & ~coded
    what = f"date or time ({column.date})" if column.date else "number"
    if odd.any() and numbers.notna().sum() == 0:
        raise CommandError(
            f"column {name}: {cells.iloc[first_of(odd)]!r:.40} ({table.place(first_of(odd))}) is "
            f"not a {what}, and no other cell of the column is, as when the model was trained; "
            "mend the column, or leave its cells empty"
        )
    refuse_amounts(table, name, odd, what)
    if odd.any():
        notes.append(
            f"column {name}: {counted(odd.sum(), 'cell')} without a {what}, "
            f"{listed(table, name, odd)}; taken as {_fill_of(column)}"
        )
    gaps = lost & ~odd
    if gaps.any():
        first = first_of(gaps)
        cell = "a gap" if is_gap(cells.iloc[first]) else repr(str(cells.iloc[first]))[:40]
        notes.append(
            f"column {name}: {counted(gaps.sum(), 'cell')} without a {what}, the first is "
            f"{cell} ({table.place(first)}); taken as {_fill_of(column)}"
        )
    if not column.date:
        _check_unit(table, column, numbers)
        note_notation(table, name, column.decimal)
    span = column.high - column.low
    far = (numbers > column.high + span) | (numbers < column.low - span)
    if span > 0 and far.any():
        notes.append(
            f"column {name}: {counted(far.sum(), 'cell')} far outside of what was trained on, "
            f"{column.low:.6g} to {column.high:.6g}: {listed(table, name, far, str)}"
        )


def _fill_of(column: Column) -> str:
    return "the mean" if column.fill is None else f"the median, {column.fill:.6g}"


def _check_unit(table: Table, column: Column, numbers: Series) -> None:
    """Refuse numbers in another unit than those that were trained on."""
    unit = unit_of_column(table, column.name, numbers)
    if column.unit is None or unit == column.unit or numbers.notna().sum() == 0:
        return
    behind_each = unit == table.units.get(column.name)  # such as kg, not a sign
    if "%" in (unit, column.unit) or (unit and (column.unit or behind_each)):
        row = first_of(numbers.notna())
        behind = f" {unit}" if unit == table.units.get(column.name) else ""
        held = f"{table.frame[column.name].iloc[row]}{behind} ({table.place(row)})"
        trained = f"in {column.unit}" if column.unit else "without a unit"
        raise CommandError(
            f"column {column.name} holds {held}, and was trained on numbers {trained}: write them "
            "alike"
        )
    if column.unit:
        table.notes.append(
            f"column {column.name} has numbers without a unit, taken as {column.unit}, as those "
            "that were trained on"
        )
