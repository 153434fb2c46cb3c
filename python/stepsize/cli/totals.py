"""Rows that are no data: the header once more, where files were joined, and totals at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepsize.cli.errors import CommandError
from stepsize.cli.numerals import is_gap, is_numeral, number_of
from stepsize.cli.splitting import listed
from stepsize.cli.table import Rows, is_filled

__all__ = ["without_headers", "without_totals"]

_LEAST = 8  # rows above totals: of fewer, one may be the sum of the others by chance
_MOST = 4  # rows of totals: sum, mean, least and greatest
_WORDS = {
    *("total", "totals", "grand total", "sum", "average", "avg", "mean"),
    *("gesamt", "summe", "mittelwert", "durchschnitt", "insgesamt"),
    *("somme", "moyenne", "totale", "totaal", "media", "suma", "promedio", "итого"),
}


def without_headers(names: Sequence[str], body: Rows, notes: list[str], counts: str) -> Rows:
    """The rows but for those that are the header once more."""
    if all(map(is_numeral, names)):
        return body
    kept = [(line, cells) for line, cells in body if [str(cell) for cell in cells] != list(names)]
    if len(kept) < len(body):
        left = {line for line, _ in kept}
        lines = [str(line) for line, _ in body if line not in left]
        what = "is the header once more" if len(lines) == 1 else "are the header once more"
        notes.append(f"{counts}{'s' * (len(lines) > 1)} {listed(lines)} {what}: left out")
    return kept


def without_totals(
    path: Path, names: Sequence[str], body: Rows, notes: list[str], counts: str
) -> Rows:
    """The rows but for sums and means of all of them at the end; what only looks so is refused.

    A row is one of sums where each of its numbers is the sum or the mean of those above, rounded as
    it is written, and one is a sum beyond all of them; where a word says so, means alone will do.
    """
    filled = [(line, cells) for line, cells in body if is_filled(cells)]
    for count in range(min(_MOST, len(filled) - _LEAST), 0, -1):
        data, last = filled[:-count], filled[-count:]
        if all(_is_total([cells for _, cells in data], cells) for _, cells in last):
            lines = [line for line, _ in last]
            shown = listed([str(line) for line in lines])
            what = "holds sums or means" if count == 1 else "hold sums or means"
            notes.append(f"{counts}{'s' * (count > 1)} {shown} {what} of the rows above: left out")
            return [(line, cells) for line, cells in body if line not in lines]
    for line, cells in filled[-_MOST:] if len(filled) > _LEAST else ():
        column = _label(cells, [other for at, other in filled if at < line])
        if column is not None:
            raise CommandError(
                f"{path} {counts} {line}: {cells[column]!r:.40} in column {names[column]} stands "
                f"there alone, as below the data: delete the {counts} if it is a total, or write "
                "another word"
            )
    return body


def _label(cells: list[Any], above: list[list[Any]]) -> int | None:
    """The column with a word that says what totals are, and that no row above holds there."""
    for i, cell in enumerate(cells):
        said = isinstance(cell, str) and cell.casefold().rstrip(" :.") in _WORDS
        if said and not any(other[i] == cell for other in above):
            return i
    return None


def _is_total(above: list[list[Any]], cells: list[Any]) -> bool:
    label = _label(cells, above)
    beyond = False
    for i, cell in enumerate(cells):
        if is_gap(cell) or not (isinstance(cell, int | float) or is_numeral(str(cell))):
            continue
        found = [_compared(cell, [other[i] for other in above], sign) for sign in ".,"]
        if not any(found):
            return False
        beyond = beyond or "sum" in found
    words = sum(isinstance(cell, str) and not (is_gap(cell) or is_numeral(cell)) for cell in cells)
    numbers = any(is_numeral(str(cell)) for cell in cells)
    return numbers and words <= 1 and (beyond or label is not None)


def _compared(cell: Any, above: list[Any], sign: str) -> str:
    """Whether a number is the "sum" of those above and beyond them, or their "mean"."""
    number = number_of(cell, sign)
    values = [number_of(other, sign) for other in above if not is_gap(other)]
    there = [value for value in values if value is not None]
    if number is None or len(there) < max(_LEAST, 0.9 * len(values)):
        return ""
    total = math.fsum(there)
    rounding = _rounding(cell, sign) + 1e-9 * math.fsum(map(abs, there))
    if abs(number - total) <= rounding:
        return "sum" if abs(number) > max(map(abs, there)) else "mean"
    return "mean" if abs(number - total / len(there)) <= rounding else ""


def _rounding(cell: Any, sign: str) -> float:
    """Half of the last digit that is written."""
    if not isinstance(cell, str):
        return 0.0
    _, point, part = cell.rpartition(sign)
    return float(0.5000001 * 10.0 ** -(sum(map(str.isdigit, part)) if point else 0))
