"""Units written behind numbers, such as ``12 kg``: taken off a column where all cells have one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import has_leading_zero, is_gap, is_numeral, unit_of
from stepsize.cli.table import Table

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["MEASURES", "take_unit"]

MEASURES = {
    *("kg", "g", "mg", "t", "lb", "lbs", "oz", "m", "cm", "mm", "km", "in", "ft", "mi", "s", "ms"),
    *("min", "h", "hr", "hrs", "d", "day", "days", "yr", "year", "years", "c", "f", "hz", "khz"),
    *("mhz", "v", "mv", "a", "ma", "w", "kw", "kwh", "mw", "j", "kj", "pa", "kpa", "hpa", "bar"),
    *("mol", "l", "ml", "n", "nm", "eur", "usd", "gbp", "rad", "deg", "db", "px", "k", "b", "mb"),
    *("gb", "tb", "mph", "km/h", "m/s"),
}
_SUFFIXED = re.compile(
    r"(?P<number>.*\d\.?)\s{0,2}(?P<unit>°[CFK]?|[^\W\d_]{1,12}(?:/[^\W\d_]{1,6})?[²³]?)"
)
_CLOCK = ("am", "pm", "a", "p", "st", "nd", "rd", "th", "e")  # of times, of places in a row


def _parts_of(cell: Any) -> tuple[str, str] | None:
    """The number and the unit of a cell; None where it is neither a number nor one with a unit."""
    text = str(cell)
    if is_numeral(cell):
        return text, ""
    found = _SUFFIXED.fullmatch(text)
    if found is None or found["unit"].lower() in _CLOCK:
        return None
    number = found["number"].rstrip()
    if not is_numeral(number) or unit_of(number) or has_leading_zero(number):
        return None
    return number, found["unit"]


def take_unit(table: Table, name: str) -> None:
    """Leave the numbers of a column, and note the unit that was behind each of them.

    A column in which one cell in ten has no unit, or another, is left as it is; CommandError where
    these are measures of several sizes, of which all but one would be read wrongly.
    """
    column = table.frame[name]
    cells = column.tolist()
    there = [row for row, cell in enumerate(cells) if not is_gap(cell)]
    if not any(isinstance(cells[row], str) and cells[row][-1:].isalpha() for row in there[:50]):
        return
    parts = {row: _parts_of(cells[row]) for row in there}
    first: dict[str, int] = {}
    count = 0
    for row, part in parts.items():
        if part is not None:
            first.setdefault(part[1], row)
            count += 1
    units = [unit for unit in first if unit]
    if not units or count < 0.9 * len(there):
        return
    if len(first) > 1:
        _check_one(table, name, first, parts.values())
        return
    numbers = [part[0] if (part := parts.get(row)) else cell for row, cell in enumerate(cells)]
    unit, row = units[0], first[units[0]]
    table.notes.append(
        f"column {name}: {cells[row]} ({table.place(row)}) is read as {numbers[row]}, in {unit}"
    )
    table.frame[name] = _like(column, numbers)
    table.units[name] = unit


def _like(cells: Series, values: Iterable[Any]) -> Series:
    import pandas

    return pandas.Series(list(values), index=cells.index, dtype=object)


def _check_one(
    table: Table, name: str, first: dict[str, int], parts: Iterable[tuple[str, str] | None]
) -> None:
    """Refuse numbers in several units of measurement, or some without one."""
    used = [part[1] for part in parts if part is not None]
    usual = max(first, key=used.count)
    if not all(unit.lower() in MEASURES for unit in first if unit):
        return
    other = next(unit for unit in first if unit != usual)
    rows = sorted((first[usual], first[other]))
    held = [f"{table.frame[name].iloc[row]} ({table.place(row)})" for row in rows]
    raise CommandError(
        f"column {name} holds {held[0]} and {held[1]}: write all its numbers in one unit, or leave "
        f"it out with --drop {name}"
    )
