"""What the columns of a table are: numbers, dates, words, or nothing to learn from.

Every decision that could be wrong is a note of one line; what cannot be decided is refused with
the line and the column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.cli.dates import date_forms, date_of, looks_like_a_date, unit_of_form
from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import (
    has_leading_zero,
    has_thousands,
    is_gap,
    marks_of,
    notation_of,
    number_of,
    unit_of,
)
from stepsize.cli.preparation import GAP, Column, middle, moments, words_of
from stepsize.cli.strange import few, listed, refuse_amounts
from stepsize.cli.table import Table
from stepsize.validation import counted

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["check_one_notation", "codes_of", "column_of", "date_form_of", "decimals_of"]
__all__ += ["first_of", "note_capitals", "note_codes", "note_notation", "spelled", "unit_of_column"]

MOST_WORDS = 50
_DWARFED = 1e-3  # of the deviation of a column: what is left of it without its farthest number
_LONGEST = 2**53  # whole numbers beyond it are rounded
_IDS = ("", "id", "index", "row", "nr", "no", "unnamed: 0", "column1", "rownames")


def first_of(chosen: Any) -> int:
    """The number of the first row that is chosen."""
    return int(np.flatnonzero(chosen)[0])


def spelled(cells: Series) -> str:
    """How the gaps among these cells are written, for a note; nothing where all are empty."""
    ways = [way for way in dict.fromkeys(cells) if isinstance(way, str) and way]
    if not ways:
        return ""
    empty = " or empty" if (cells.map(str) == "").any() else ""
    return f" (written {', '.join(map(repr, ways[:4]))}{', ...' if ways[4:] else ''}{empty})"


def decimals_of(table: Table, decimal: str | None) -> dict[str, str]:
    """The decimal sign of each column, from what its cells prove, else from the other columns."""
    proofs = {name: notation_of(cells) for name, cells in table.frame.items()}
    if decimal is not None:
        return dict.fromkeys(proofs, decimal)
    seen = {sign for rows in proofs.values() for sign in rows if len(rows) and sign in ".,"}
    found = {}
    for name, rows in proofs.items():
        check_one_notation(table, name, rows)
        if "." in rows or "," in rows:
            found[name] = "." if "." in rows else ","
        elif len(seen) == 1:
            found[name] = next(iter(seen))
        elif "?," in rows and table.delimiter not in (",", ";"):
            cell, place = table.frame[name].iloc[rows["?,"]], table.place(rows["?,"])
            raise CommandError(
                f"column {name}: {cell} ({place}) may have thousands or a decimal comma: say "
                "--decimal . or --decimal ,"
            )
        else:
            # Where a comma is the decimal sign, a semicolon stands between the cells.
            found[name] = "," if "?," in rows and table.delimiter == ";" else "."
            if "?." in rows:
                cell, place = table.frame[name].iloc[rows["?."]], table.place(rows["?."])
                table.notes.append(
                    f"column {name}: {cell} ({place}) is read as {number_of(cell, '.'):.15g}; "
                    "if its point sets thousands apart, say --decimal ,"
                )
    return found


def check_one_notation(table: Table, name: str, rows: Mapping[str, int]) -> None:
    """Refuse numbers of which one would be read wrongly with any decimal sign."""
    for signs in (".", ","), ("?.", "?,"):
        if not set(signs) <= set(rows) or (signs[0] != "." and set(rows) & {".", ","}):
            continue
        point, comma = (
            f"{table.frame[name].iloc[rows[sign]]} ({table.place(rows[sign])})" for sign in signs
        )
        raise CommandError(
            f"column {name} holds {point} and {comma}: write all its numbers one way, or say "
            "--decimal . or --decimal ,"
        )


def note_notation(table: Table, name: str, decimal: str) -> None:
    """Say in one line which numbers, and where, could be read in another way than they are."""
    rows: dict[str, int] = {}
    for row, cell in enumerate(table.frame[name]):
        for mark in marks_of(cell, decimal):
            rows.setdefault(mark, row)
    said = []
    for row in sorted(set(rows.values())):
        cell = table.frame[name].iloc[row]
        said.append((cell, f"{number_of(cell, decimal):.15g} ({table.place(row)})"))
    if said:
        rest = "".join(f", {cell} as {number}" for cell, number in said[1:3])
        table.notes.append(f"column {name}: {said[0][0]} is read as {said[0][1]}{rest}")


def unit_of_column(table: Table, name: str, numbers: Series) -> str:
    """The unit of a column's numbers; CommandError where they have several."""
    units = table.frame[name][numbers.notna()].map(unit_of)
    kinds = dict.fromkeys(units)
    signs = [unit for unit in kinds if unit]
    if len(signs) > 1 or ("%" in kinds and len(kinds) > 1):
        held = []
        for unit in list(kinds)[:2]:
            row = int(units.index[units == unit][0])
            held.append(f"{table.frame[name].loc[row]} ({table.place(row)})")
        raise CommandError(
            f"column {name} holds {held[0]} and {held[1]}: write all its numbers in one unit, or "
            f"leave it out with --drop {name}"
        )
    return signs[0] if signs else table.units.get(name, "")


def codes_of(numbers: Series) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Numbers that stand for a gap, such as -999, and those above all others that may."""
    there = numbers.dropna().unique()
    nines = [n for n in there if re.fullmatch(r"-9{2,9}|9{3,9}", f"{n:.15g}")]
    others = np.setdiff1d(there, nines)
    if not nines or len(others) < 2:
        return (), ()
    low, high = float(others.min()), float(others.max())
    codes = [float(n) for n in nines if n < 0 and (low >= 0 or n < low - (high - low))]
    doubtful = [float(n) for n in nines if n > 0 and n > high + (high - low)]
    return tuple(codes), tuple(doubtful)


def note_codes(table: Table, column: Column, numbers: Series) -> None:
    """Set the codes of a column, with a note for each and for those that may be one."""
    column.codes, doubtful = codes_of(numbers)
    for code in (*column.codes, *doubtful):
        held = numbers == code
        where = f"{counted(held.sum(), 'cell')}, the first in {table.place(first_of(held))}"
        if code in column.codes:
            table.notes.append(f"column {column.name}: {code:.15g} ({where}) is taken as a gap")
        else:
            table.notes.append(
                f"column {column.name}: {code:.15g} ({where}) is far above the other numbers and "
                "taken as one; where it means a gap, leave the cell empty"
            )


def date_form_of(table: Table, name: str, gaps: Series, decimal: str) -> str:
    """The form of a column's dates, or nothing; CommandError where day and month may be swapped."""
    cells = table.frame[name][~gaps].map(lambda cell: cell)
    if not len(cells):
        return ""
    kinds = cells.unique()
    looking = [cell for cell in kinds if looks_like_a_date(cell)]
    numeric = all(number_of(cell, decimal) is not None for cell in kinds)
    if numeric:  # such as 20240301
        dated = re.search(r"date|datum|day|tag|time", name.lower()) and len(kinds) > 3
        return "yearmonthday" if dated and "yearmonthday" in date_forms(kinds) else ""
    strange = cells[~cells.isin(looking)]
    if not looking or (len(strange) and not few(strange.notna(), strange.unique(), gaps)):
        return ""
    if not any(isinstance(cell, str) for cell in looking):
        return "year-month-day"  # dates that are of that type already
    forms = date_forms(looking)
    if {"day.month.year", "month/day/year"} <= set(forms):
        if str(looking[0]).count(".") >= 2 or all(_is_symmetric(cell) for cell in looking):
            return "day.month.year"
        first = next(cell for cell in looking if not _is_symmetric(cell))
        place = table.place(int(cells.index[cells == first][0]))
        raise CommandError(
            f"column {name}: {first} ({place}) may be day/month or month/day, and no date of it "
            f"says which; write year-month-day, or leave it out with --drop {name}"
        )
    return forms[0] if forms else ""


def _is_symmetric(cell: Any) -> bool:
    return date_of(cell, "day.month.year") == date_of(cell, "month/day/year")


def column_of(table: Table, name: str, decimal: str) -> Column | None:
    """What a column is; None, with a note, where it says nothing; CommandError if mixed."""
    cells, notes = table.frame[name], table.notes
    gaps = cells.map(is_gap)
    if gaps.all():
        notes.append(f"column {name} is empty, left out")
        return None
    column = Column(name, decimal, date=date_form_of(table, name, gaps, decimal))
    numbers = column.numbers(cells)
    odd = numbers.isna() & ~gaps
    coded = cells.map(has_leading_zero)
    if coded.any() and not column.date and numbers[~gaps].notna().all():
        first = cells.iloc[first_of(coded)]
        notes.append(
            f"column {name}: {first} ({table.place(first_of(coded))}) begins with 0, a code and "
            "not an amount: its numbers are taken as words"
        )
        return _words(table, name, ~gaps, numbers, coded=True)
    if _numbers_the_rows(table, name, numbers, gaps):
        return None
    words = cells[odd].map(str).unique()
    if odd.any() and (numbers.notna().sum() == 0 or not few(odd, words, gaps)):
        return _words(table, name, odd, numbers)
    return _numbers(table, column, numbers, odd, gaps)


def _numbers(
    table: Table, column: Column, numbers: Series, odd: Series, gaps: Series
) -> Column | None:
    name, notes, cells = column.name, table.notes, table.frame[column.name]
    if column.date:
        first = numbers.notna().idxmax()
        notes.append(
            f"column {name} holds dates or times ({column.date}), read as "
            f"{unit_of_form(column.date)}: {cells.loc[first]} is {numbers.loc[first]:.10g}; "
            f"--drop {name} leaves it out"
        )
    else:
        column.unit = unit_of_column(table, name, numbers)
        column.grouped = bool(cells.map(lambda cell: has_thousands(cell, column.decimal)).any())
        note_notation(table, name, column.decimal)
        note_codes(table, column, numbers)
    if odd.any():
        what = "date" if column.date else "number"
        refuse_amounts(table, name, odd, what)
        notes.append(
            f"column {name}: {counted(odd.sum(), 'cell')} without a {what}, "
            f"{listed(table, name, odd)}: gaps"
        )
    there = column.numbers(cells)
    if there.nunique() == 1:
        where = "every row" if there.notna().all() else "every row that has it"
        notes.append(f"column {name} is {there.dropna().iloc[0]:.6g} in {where}, left out")
        return None
    _note_far(table, name, there)
    if there.abs().max() > _LONGEST and (there.dropna() == there.dropna().round()).all():
        row = first_of(there.abs() > _LONGEST)
        notes.append(
            f"column {name}: {cells.iloc[row]!s:.40} ({table.place(row)}) has more digits than a "
            f"number keeps, the last are rounded; if it is a name, leave it out: --drop {name}"
        )
    return column


def _note_far(table: Table, name: str, there: Series) -> None:
    """Say of one number that it is so far from all others that these look alike beside it."""
    there = there.dropna()
    far = (there / 2 - middle(there) / 2).abs().idxmax()
    if len(there) > 2 and moments(there.drop(far))[1] < _DWARFED * moments(there)[1]:
        table.notes.append(
            f"column {name}: {table.frame[name].loc[far]!s:.40} ({table.place(int(far))}) is so "
            "far from the other numbers that they are all alike beside it; where it is an error, "
            "leave the cell empty"
        )


def _words(
    table: Table, name: str, odd: Series, numbers: Series, coded: bool = False
) -> Column | None:
    cells = words_of(table.frame[name])
    kinds, rows = sorted(cells.unique()), len(cells)
    gaps, most = (cells == GAP).sum(), rows / 2
    if _is_dates(cells):
        _refuse_forms(table, name, cells)
    if coded and len(kinds) > MOST_WORDS:
        table.notes.append(f"column {name} holds {len(kinds)} different codes, left out")
        return None
    if len(kinds) > MOST_WORDS:
        _refuse_words(table, name, odd, numbers, len(kinds))
    if len(kinds) == 1 or len(kinds) > most:
        what = f"{kinds[0]!r:.40}" if len(kinds) == 1 else f"{len(kinds)} different words"
        why = ""
        if numbers.notna().any() and len(kinds) > 1:
            first = first_of(odd)
            why = (
                f": {counted(odd.sum(), 'cell')} that {'is' if odd.sum() == 1 else 'are'} no "
                f"number, the first {str(table.frame[name].iloc[first])!r:.40} "
                f"({table.place(first)})"
            )
        table.notes.append(f"column {name}: {what} in {counted(rows, 'row')}, left out{why}")
        return None
    shown = ", ".join(repr(kind)[:20] for kind in kinds[:5]) + (", ..." if kinds[5:] else "")
    table.notes.append(
        f"column {name}: {counted(len(kinds), 'word')}, one input of 0 or 1 each ({shown})"
    )
    if gaps:
        table.notes.append(
            f"column {name}: {counted(gaps, 'gap')}, the word ''"
            f"{spelled(table.frame[name][cells == GAP])}"
        )
    if _is_dates(cells):
        table.notes.append(f"column {name} holds dates or times; --drop {name} leaves it out")
    note_capitals(table, f"column {name}: words", kinds)
    return Column(name, words=tuple(kinds))


def note_capitals(table: Table, what: str, kinds: Sequence[str]) -> None:
    """Say which words differ in capitals alone: they are kept apart."""
    alike: dict[str, list[str]] = {}
    for kind in kinds:
        alike.setdefault(kind.casefold(), []).append(kind)
    groups = [" and ".join(map(repr, same[:3])) for same in alike.values() if len(same) > 1]
    if groups:
        table.notes.append(
            f"{what} that differ in capitals alone are kept apart: {', '.join(groups[:3])}"
            f"{', ...' if groups[3:] else ''}; where they mean the same, write them alike"
        )


def _refuse_words(table: Table, name: str, odd: Series, numbers: Series, kinds: int) -> None:
    cells, first = table.frame[name].map(str), first_of(odd)
    cell, place = cells.iloc[first], table.place(first)
    some = f"{odd.sum()} of its {len(odd)} cells are no numbers, the first is"
    about = f"{some} {cell!r:.40} ({place})" if numbers.notna().any() else f"as {cell!r:.40}"
    if _is_dates(cells):
        raise CommandError(
            f"column {name} holds dates or times, such as {cells.iloc[0]!r:.40}; leave it out "
            f"with --drop {name}, or write what matters of them as numbers, such as the month"
        )
    raise CommandError(
        f"column {name} holds {kinds} different words; leave it out with --drop {name}, "
        f"or write numbers ({about})"
    )


def _refuse_forms(table: Table, name: str, cells: Series) -> None:
    """Refuse dates that are written in several forms, with one of each."""
    looking = cells[cells.map(looks_like_a_date)]
    first = looking.iloc[0]
    forms = date_forms([first])
    for row, cell in looking.items():
        held = [form for form in forms if date_of(cell, form) is not None]
        if forms and not held:
            raise CommandError(
                f"column {name} holds dates or times in several forms, {first!r:.40} "
                f"({table.place(int(looking.index[0]))}) and {cell!r:.40} ({table.place(int(row))})"
                f": write all in one, such as year-month-day, or leave it out with --drop {name}"
            )
        forms = held


def _numbers_the_rows(table: Table, name: str, numbers: Series, gaps: Series) -> bool:
    """Whether a column is left out for the row numbers it holds; a note where it may be one."""
    there = numbers.dropna()
    if len(there) < 3 or len(there) + gaps.sum() < len(numbers):
        return False
    key = name.lower().strip("_ ").removesuffix("s")
    whole, distinct = bool((there == there.round()).all()), there.is_unique
    if not (whole and distinct) or len(there) < 0.8 * len(numbers):
        return False
    counts = _counts(there)
    if key in _IDS and (counts or len(there) > 8):
        what = "counts the rows" if counts else "holds another whole number in every row"
        table.notes.append(f"column {name} {what}, left out")
        return True
    if counts or re.search(r"(^|[_ .-])(id|key|uuid)$|[a-z](Id|ID)$", name):
        what = "counts the rows" if counts else "holds another whole number in every row"
        table.notes.append(
            f"column {name} {what}; if it tells nothing, leave it out: --drop {name}"
        )
    return False


def _counts(there: Series) -> bool:
    """Whether numbers are those of the rows, from 0 or 1 on, some of them missing."""
    steps = np.diff(there.to_numpy())
    rows = np.diff(there.index.to_numpy())
    slack = max(1.0, 0.1 * len(there))
    first = there.iloc[0] - there.index[0]
    return bool(0 <= first <= slack and (steps >= rows).all() and (steps - rows).sum() <= slack)


def _is_dates(cells: Series) -> bool:
    """Whether most of the cells look like dates or times."""
    return bool(cells.map(looks_like_a_date).mean() > 1 / 2)
