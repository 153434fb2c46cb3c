"""Which rows are names, units or data, and that all of them have as many cells."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import is_gap, is_numeral
from stepsize.cli.splitting import listed
from stepsize.cli.table import Rows, is_filled
from stepsize.cli.units import MEASURES
from stepsize.validation import counted

__all__ = ["header_of", "joined_names", "names_of", "rectangular", "without_units"]


_DEEPEST = 30  # rows above the names of columns, such as titles
_UNIT = re.compile(r"[\[(].{0,20}[\])]|[^\d\W]{0,6}[%°µΩ²³/*^$€][^\d]{0,6}\d?")


def header_of(
    rows: Rows, known: Sequence[str], notes: list[str], counts: str
) -> tuple[list[str], Rows]:
    """The names of the columns and the rows below; without a header the columns are numbered."""
    rows = _below_titles(rows, known, notes, counts)
    first, below = [str(cell) for cell in rows[0][1]], rows[1:]
    if set(known) & set(first):
        return first, below
    numbered = bool(known) and all(re.fullmatch(r"column\d+", name) for name in known)
    if not numbered and not any(map(is_numeral, first)):
        return first, below
    # A row of data among data: its words occur again below it, its numbers stand above numbers.
    sample = below[:200]
    for i, cell in enumerate(() if numbered else rows[0][1]):
        column = [cells[i] for _, cells in sample if i < len(cells)]
        numbers = sum(map(is_numeral, column))
        data = 2 * numbers > len(column) if is_numeral(cell) else cell == "" or cell in column
        if not data:
            return first, below
    names = [f"column{i + 1}" for i in range(len(first))]
    notes.append(f"{counts} {rows[0][0]} holds data: no header, the columns are {listed(names)}")
    return names, rows


def _below_titles(rows: Rows, known: Sequence[str], notes: list[str], counts: str) -> Rows:
    """The rows from the header on: the first that holds a known name, or is as wide as the rest."""
    header = 0
    if not set(known) & set(rows[0][1]):
        wide = [i for i, (_, cells) in enumerate(rows[:_DEEPEST]) if set(known) & set(cells)]
        above = rows[0][1]
        narrow = above[1:] == [""] * (len(above) - 1)  # a title has one cell
        header = wide[0] if wide and (narrow or _is_grouping(above, rows[wide[0]][1])) else 0
    if header:
        lines = [str(line) for line, cells in rows[:header] if cells]
        shown = f"{counts} {lines[0]}" if len(lines) == 1 else f"{counts}s {listed(lines)}"
        notes.append(f"{shown} above the names of the columns left out")
    return rows[header:]


def _is_grouping(above: Sequence[Any], names: Sequence[Any]) -> bool:
    """Whether one row groups the columns that the next one names, as in merged cells of sheets.

    It has a gap, and there and wherever it has none the next has a name; no other stands there
    twice.
    """
    filled = [str(name) for name in names if name != ""]
    return (
        len(above) == len(names) == len(filled) == len(set(filled))
        and "" in above
        and not any(map(is_numeral, filled))
    )


def joined_names(
    header: list[str], body: Rows, notes: list[str], counts: str
) -> tuple[list[str], Rows]:
    """Names of two rows as one: ``2023 | | 2024 |`` above ``q1 | q2 | q1 | q2``, as sheets merge.

    So are rows read of which the first has a gap behind a name wherever the second has a name too,
    and the second has no number, with numbers below it.
    """
    if len(body) < 3 or "" not in header[1:] or not header[0]:
        return header, body
    line, second = body[0]
    words = [str(cell) for cell in second]
    width = max((i + 1 for i, name in enumerate(header) if name), default=0)
    width = max(width, max((i + 1 for i, word in enumerate(words) if word), default=0))
    gaps = [i for i in range(width) if i >= len(header) or not header[i]]
    if not gaps or len(words) < width or any(is_gap(words[i]) for i in gaps):
        return header, body
    if any(map(is_numeral, words)) or not any(map(is_numeral, map(str, body[1][1]))):
        return header, body
    names, group = list(header), ""
    for i in range(min(width, len(header))):
        group = header[i] or group
        names[i] = f"{group} {words[i]}".rstrip()
    notes.append(f"{counts} {line} holds names below those above: {listed(names)}")
    return names, body[1:]


def without_units(header: Sequence[str], body: Rows, notes: list[str], counts: str) -> Rows:
    """The rows but for one of units, such as ``kg`` and ``(cm)``, right below the header.

    It holds words where every other row holds numbers: in two columns, or in one if the word is
    a unit of measurement.
    """
    if len(body) < 3:
        return body
    line, first = body[0]
    below = [cells for _, cells in body[1:201] if is_filled(cells)]
    worded = []
    for i, cell in enumerate(first):
        others = [cells[i] for cells in below if not is_gap(cells[i])]
        if not others or sum(map(is_numeral, others)) < 0.9 * len(others):
            continue
        if is_numeral(cell) or cell in others:
            return body
        if not is_gap(cell):
            worded.append(i)
    sure = [
        i for i in worded if str(first[i]).lower() in MEASURES or _UNIT.fullmatch(str(first[i]))
    ]
    differ = len({str(first[i]) for i in worded}) > 1  # "unknown" twice is no unit
    if not (sure or (differ and all(len(str(first[i])) <= 12 for i in worded))):
        return body
    shown = ", ".join(f"{header[i]} in {first[i]}" for i in worded[:4])
    notes.append(
        f"{counts} {line} holds units ({shown}{', ...' if worded[4:] else ''}) "
        "and no data: left out"
    )
    return body[1:]


def _row_names(cells: list[Any]) -> bool:
    """Whether cells name rows, as R writes them: each another text, or whole numbers in a row."""
    try:
        numbers = [float(cell) for cell in cells if cell != ""]
    except ValueError:
        return len(set(cells)) == len(cells)
    return all(after - before == 1 for before, after in itertools.pairwise(numbers))


def rectangular(
    path: Path, header: list[str], body: Rows, notes: list[str], counts: str
) -> tuple[list[str], Rows]:
    """As many cells in each row as names; a row of another width is named."""
    width = len(header)
    body = [(line, cells or [""] * width) for line, cells in body]
    full = [cells for _, cells in body if is_filled(cells)]
    if {len(cells) for cells in full} == {width + 1}:
        body = [(line, cells if is_filled(cells) else [""] * (width + 1)) for line, cells in body]
        if all(cells[-1] == "" for cells in full):
            return header, [(line, cells[:-1]) for line, cells in body]
        if not _row_names([cells[0] for cells in full]):
            raise CommandError(
                f"{path}, {counts} {body[0][0]}: every row has one cell more than the {width} "
                "names of the header, and the first cells are no names of rows; give each column "
                "a name"
            )
        notes.append("the rows have one cell more than the header: the first one is a row's name")
        return header, [(line, cells[1:]) for line, cells in body]
    while (
        width > 1 and not header[width - 1] and not any(is_filled(c[width - 1 :]) for _, c in body)
    ):
        width -= 1  # empty columns at the right end, as spreadsheets leave them
    for line, cells in body:
        if len(cells) != len(header) and (len(cells) < width or is_filled(cells[width:])):
            raise CommandError(
                f"{path} {counts} {line}: {counted(len(cells), 'cell')}, expected {len(header)} "
                f"({listed(header)}); mend or delete the line, or put quotes around cells "
                "that hold the separator"
            )
    return header[:width], [(line, cells[:width]) for line, cells in body]


def names_of(path: Path, header: list[str], known: Sequence[str], notes: list[str]) -> list[str]:
    """Names that are there and differ."""
    count = Counter(header)
    for name in known:
        if count[name] > 1 and f"{name}.2" not in known:
            raise CommandError(f"{path} has {count[name]} columns named {name}: rename all but one")
    names: dict[str, None] = {}  # in their order
    for i, name in enumerate(header, 1):
        new = name or f"column{i}"
        k = 2
        while new in names or (new != name and new in count):
            new = f"{name or f'column{i}'}.{k}"
            k += 1
        if new != name:
            what = f"a second column named {name}" if name else f"column {i} without a name"
            notes.append(f"{what} is called {new}")
        names[new] = None
    return list(names)
