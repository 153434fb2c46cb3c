"""Text as rows of cells, each with the line it begins in; lines that are no rows are left out.

Text is split by the csv module and not by pandas, which fills short rows without a word and does
not say in which line a cell stood; all that follows is pandas' work.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

from stepsize.cli.errors import CommandError
from stepsize.cli.table import Rows
from stepsize.validation import counted

__all__ = ["delimiter_of", "listed", "split"]


def delimiter_of(text: str) -> str:
    """The sign between the cells: one that splits the first lines alike, rare ones first.

    A space is one only where no other sign is.
    """
    if told := _SEP_LINE.match(text):
        return told[1]
    lines = [line for line in text.splitlines()[:50] if line.strip() and not line.startswith("#")]
    best, widest = ",", 1
    for sign in ("\t", ";", "|", ","):
        widths = [len(row) for row in csv.reader(lines, delimiter=sign, skipinitialspace=True)]
        usual = max(set(widths), key=widths.count, default=0)  # titles above have one cell
        if usual < 2:
            continue
        if max(widths) - min(widths) <= 1:
            return sign
        if usual > widest:
            best, widest = sign, usual
    if widest == 1 and len({len(line.split()) for line in lines}) == 1 and len(lines) > 1:
        return " " if len(lines[0].split()) > 1 else best
    return best


_SEP_LINE = re.compile(r"sep=([,;|\t])\r?\n", re.IGNORECASE)  # as Excel writes and reads it


def split(path: Path, text: str, delimiter: str, notes: list[str], keep_blank: bool) -> Rows:
    """The rows, and the lines they begin in; one that holds nothing is empty, where it is kept."""
    csv.field_size_limit(sys.maxsize)
    lines = list(io.StringIO(text, newline=""))  # no other sign than these ends a line
    told = bool(_SEP_LINE.match(text))
    if told:
        lines[0] = "\n"
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: Rows = []
    comments: Rows = []
    empty: list[str] = []
    start = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if _is_comment(cells, rows):
                comments.append((start, cells))
            elif any(cells):
                rows.append((start, cells))
            elif rows and (cells or keep_blank):
                rows.append((start, []))
                empty.append(str(start) if len(cells) > 1 or keep_blank else "")
            last, start = start, reader.line_num + 1
    except csv.Error as error:
        raise CommandError(f"{path} line {reader.line_num}: {error}") from None
    if rows and last < reader.line_num:
        _check_quotes(path, lines[last - 1 :], last, delimiter)
    while keep_blank and rows and not rows[-1][1] and not lines[rows[-1][0] - 1].strip():
        rows.pop()  # empty lines at the end are the end
        empty.pop()
    _note_comments(rows, comments, notes)
    empty = [line for line in empty if line]
    if empty:
        what = "an empty answer" if keep_blank else "left out"
        notes.append(f"no value in line {listed(empty)}: {what}")
    return rows if keep_blank else [(line, cells) for line, cells in rows if cells]


def _is_comment(cells: list[str], rows: Rows) -> bool:
    """Whether a line is a comment: above the table any with a #, below one of another width."""
    if not cells or not cells[0].startswith("#"):
        return False
    return not rows or (len(cells) != len(rows[0][1]) and len(rows[0][1]) > 1)


def _note_comments(rows: Rows, comments: Rows, notes: list[str]) -> None:
    """Count the comments; the last one above the rows may be a header with the sign of one."""
    above = [i for i, (line, _) in enumerate(comments) if rows and line < rows[0][0]]
    if above and len(comments[above[-1]][1]) == len(rows[0][1]) > 1:
        line, names = comments.pop(above[-1])
        rows.insert(0, (line, [names[0].lstrip("# "), *names[1:]]))
    if comments:
        below = [str(line) for line, _ in comments if rows and line > rows[0][0]]
        notes.append(
            f"{counted(len(comments), 'line')} that "
            f"{'begins' if len(comments) == 1 else 'begin'} with # left out"
            f"{f', below the header line {listed(below)}' if below else ''}"
        )


def _check_quotes(path: Path, lines: list[str], start: int, delimiter: str) -> None:
    """Refuse a last row whose quote is never closed: it would hold the rest of the file."""
    try:
        list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise CommandError(
                f"{path} line {start}: a quote opens here that is never closed; close it, or "
                "delete it"
            ) from None


def listed(names: list[str]) -> str:
    """A few names, the last one too."""
    shown = names if len(names) <= 6 else [*names[:5], "...", names[-1]]
    return ", ".join(shown)
