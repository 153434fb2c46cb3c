"""Numbers as people write them: decimal commas, thousands, currencies, per cent, gaps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["GAPS", "UNITS", "has_leading_zero", "is_gap", "is_numeral", "marks_of", "notation_of"]
__all__ += ["has_thousands", "number_of", "unit_of"]

# How people write that there is no value.
GAPS = {
    *("", "na", "n/a", "#n/a", "<na>", "n.a.", "nan", "null", "nil", "none", "missing", "nat"),
    *("?", "-", "--", ".", "..", "...", "n.d.", "nd", "\u2013", "\u2014"),
    *("k.a.", "\\n"),  # of German forms, of MySQL
    *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"),  # of spreadsheets
}
_SPACES = "\u00a0\u202f\u2009 '’_"  # signs between thousands that are no decimal sign
_MONEY = "$€£¥"
UNITS = ("%", *_MONEY)
_AFFIX = rf"(?:[{_MONEY}]\s?)?"
_FORMS = {
    sign: re.compile(
        rf"(?P<debit>\(\s?)?(?P<sign>[+\-\u2212]?){_AFFIX}"
        rf"(?P<whole>[1-9]\d{{0,2}}(?:[{re.escape(other + _SPACES)}]\d{{3}})+|\d+)?"
        rf"(?:{re.escape(sign)}(?P<part>\d*))?(?P<power>[eE][+-]?\d{{1,4}})?"
        rf"(?:\s?[{_MONEY}])?(?P<percent>\s?%)?(?(debit)\s?\)|(?P<behind>[-\u2212])?)"
    )
    for sign, other in ((".", ","), (",", "."))
}
# Most cells: what no notation reads in another way, but for the point where a comma is the sign.
_PLAIN = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_ZERO_FIRST = re.compile(r"[+-]?0\d+")


def is_gap(value: Any) -> bool:
    """Whether a cell says that there is no value."""
    if isinstance(value, str):
        return value.lower() in GAPS
    return value is None or str(value) in ("<NA>", "NaT", "nan")


def number_of(cell: Any, decimal: str = ".") -> float | None:
    """The finite number that a cell holds, written with this decimal sign, or None."""
    if not isinstance(cell, str):
        try:
            number = float(cell)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    if _is_plain(cell, decimal):
        number = float(cell)
        return number if math.isfinite(number) else None
    found = _FORMS[decimal].fullmatch(cell)
    if found is None or not (found["whole"] or found["part"]):
        return None
    if found["sign"] and (found["debit"] or found["behind"]):
        return None
    whole = re.sub(r"\D", "", found["whole"] or "0")
    sign = "-" if found["sign"] in ("-", "\u2212") or found["debit"] or found["behind"] else ""
    number = float(f"{sign}{whole}.{found['part'] or '0'}{found['power'] or ''}")
    if found["percent"]:
        number /= 100
    return number if math.isfinite(number) else None


def _is_plain(cell: str, decimal: str) -> bool:
    return (decimal == "." or "." not in cell) and _PLAIN.fullmatch(cell) is not None


def is_numeral(cell: str) -> bool:
    """Whether a cell is a number in one notation or the other."""
    return number_of(cell, ".") is not None or number_of(cell, ",") is not None


def has_leading_zero(cell: Any) -> bool:
    """Whether a cell is digits with a zero before them, as in ``007``: a code, not an amount."""
    return isinstance(cell, str) and _ZERO_FIRST.fullmatch(cell) is not None


def unit_of(cell: Any) -> str:
    """The per cent or currency sign of a cell; empty where there is none."""
    if not isinstance(cell, str):
        return ""
    return next((sign for sign in UNITS if sign in cell), "")


def marks_of(cell: Any, decimal: str) -> list[str]:
    """What in a number could be read in more than one way, such as ``,`` in ``1,234`` or ``%``."""
    if not isinstance(cell, str) or _is_plain(cell, decimal):
        return []
    found = _FORMS[decimal].fullmatch(cell)
    if found is None or number_of(cell, decimal) is None:
        return []
    marks = [","] if "," in cell else []
    if decimal == "," and "." in cell:
        marks.append(".")
    elif "." in cell and number_of(cell, ",") is not None:
        marks.append(".")  # $1.000
    if any(sign in (found["whole"] or "") for sign in _SPACES):
        marks.append("_")
    if found["power"] and not found["part"]:
        marks.append("e")
    if has_leading_zero(cell):
        marks.append("0")
    if found["debit"]:
        marks.append("(")
    if found["behind"]:
        marks.append("-")  # 2,310.00-, as accounting programs write
    return [*marks, unit_of(cell)] if unit_of(cell) else marks


def has_thousands(cell: Any, decimal: str) -> bool:
    """Whether a cell is a number whose thousands are set apart, as in ``$12,500``."""
    if not isinstance(cell, str) or number_of(cell, decimal) is None:
        return False
    found = _FORMS[decimal].fullmatch(cell)
    return found is not None and not (found["whole"] or "0").isdigit()


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
