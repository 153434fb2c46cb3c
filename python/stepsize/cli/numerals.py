"""Numbers as people write them: decimal commas, thousands, currencies, per cent, gaps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["GAPS", "is_gap", "is_numeral", "notation_of", "number_of"]

# How people write that there is no value.
GAPS = {
    *("", "na", "n/a", "#n/a", "<na>", "n.a.", "nan", "null", "nil", "none", "missing", "nat"),
    *("?", "-", "--", ".", "..", "...", "n.d.", "nd", "\u2013", "\u2014"),
}
_SPACES = "\u00a0\u202f\u2009 '’_"  # signs between thousands that are no decimal sign
_AFFIX = r"(?:[$€£¥]\s?)?"
_FORMS = {
    sign: re.compile(
        rf"(?P<sign>[+\-\u2212]?){_AFFIX}"
        rf"(?P<whole>[1-9]\d{{0,2}}(?:[{re.escape(other + _SPACES)}]\d{{3}})+|\d+)?"
        rf"(?:{re.escape(sign)}(?P<part>\d*))?(?P<power>[eE][+-]?\d{{1,4}})?"
        rf"(?:\s?[$€£¥])?(?P<percent>\s?%)?"
    )
    for sign, other in ((".", ","), (",", "."))
}


def is_gap(value: Any) -> bool:
    """Whether a cell says that there is no value."""
    if isinstance(value, str):
        return value.lower() in GAPS
    return value is None or value is not value or str(value) in ("<NA>", "NaT")


def number_of(cell: Any, decimal: str = ".") -> float | None:
    """The finite number that a cell holds, written with this decimal sign, or None."""
    if not isinstance(cell, str):
        try:
            number = float(cell)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    found = _FORMS[decimal].fullmatch(cell)
    if found is None or not (found["whole"] or found["part"]):
        return None
    whole = re.sub(r"\D", "", found["whole"] or "0")
    sign = "-" if found["sign"] in ("-", "\u2212") else ""
    number = float(f"{sign}{whole}.{found['part'] or '0'}{found['power'] or ''}")
    if found["percent"]:
        number /= 100
    return number if math.isfinite(number) else None


def is_numeral(cell: str) -> bool:
    """Whether a cell is a number in one notation or the other."""
    return number_of(cell, ".") is not None or number_of(cell, ",") is not None


def notation_of(cells: Iterable[Any]) -> dict[str, int]:
    """The decimal signs that a column's cells prove, each with the row of the first that does.

    ``1,5`` and ``1.234,5`` prove a comma, ``1.5`` and ``1,234.5`` a point. What could be either is
    given under ``"?,"`` (``1,234``) or ``"?."`` (``1.234``).
    """
    rows: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and ("," in cell or "." in cell):
            held = [sign for sign in ".," if number_of(cell, sign) is not None]
            if len(held) == 2:
                rows.setdefault("?," if "," in cell else "?.", row)
            elif held:
                rows.setdefault(held[0], row)
    return rows
