"""Dates and times as people write them, as numbers: days since 1970, or hours of the day."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["FORMS", "date_forms", "date_of", "looks_like_a_date", "unit_of_form"]

_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_TIME = rf"(?:[T ]+{_CLOCK})?"
_YMD = r"(?P<y>\d{4})(?P<s>[-/.])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
_ZONE = r"\s?(?P<zone>Z|[+-]\d{2}:?\d{2})?"
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_PATTERNS = {
    "year-month-day": _YMD + _TIME + _ZONE,
    "year-month": r"(?P<y>\d{4})[-/](?P<m>\d{1,2})",
    "day.month.year": rf"(?P<d>\d{{1,2}})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<y>\d{{4}}){_TIME}",
    "month/day/year": rf"(?P<m>\d{{1,2}})(?P<s>[-/])(?P<d>\d{{1,2}})(?P=s)(?P<y>\d{{4}}){_TIME}",
    "day month year": rf"(?P<d>\d{{1,2}})[ .-]+{_NAME}[ -](?P<y>\d{{4}}){_TIME}",
    "month day, year": rf"{_NAME} (?P<d>\d{{1,2}}),? (?P<y>\d{{4}}){_TIME}",
    "hour:minute": _CLOCK,
    "yearmonthday": r"(?P<y>(?:19|20)\d{2})(?P<m>\d{2})(?P<d>\d{2})",
}
FORMS = {form: re.compile(pattern) for form, pattern in _PATTERNS.items()}
_DATE = re.compile(
    r"\s*(\d{4}[-/]\d{1,2}(?!\d)|\d{4}\.\d{1,2}\.\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d{2}(:\d{2})?"
    r"|(\d{1,2} )?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d)"
)
_EPOCH = datetime.datetime(1970, 1, 1)


def looks_like_a_date(cell: Any) -> bool:
    """Whether a cell may be a date or a time, in whatever form."""
    return bool(_DATE.match(str(cell)))


def unit_of_form(form: str) -> str:
    """What the numbers of dates in this form count."""
    return "hours" if form == "hour:minute" else "days since 1970-01-01"


def date_of(cell: Any, form: str) -> float | None:
    """A date in days since 1970-01-01, or a time of day in hours; None where it is neither."""
    if isinstance(cell, datetime.datetime):
        return (cell.replace(tzinfo=None) - _EPOCH) / datetime.timedelta(days=1)
    if isinstance(cell, datetime.date):
        return float((cell - _EPOCH.date()).days)
    found = FORMS[form].fullmatch(str(cell))
    if found is None:
        return None
    part = found.groupdict()
    hour = float(part.get("hour") or 0)
    if half := part.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half in "Pp")  # 12:10 AM is ten past midnight
    hours = hour + float(part.get("minute") or 0) / 60
    hours += float((part.get("second") or "0").replace(",", ".")) / 3600
    if float(part.get("minute") or 0) >= 60 or hours > 24:
        return None
    if form == "hour:minute":
        return hours
    month = part.get("m") or 1 + _MONTHS.index(name) if (name := _short(part)) else part.get("m")
    try:
        day = datetime.date(int(part["y"]), int(month or 0), int(part.get("d") or 1))
    except ValueError:
        return None
    return (day - _EPOCH.date()).days + (hours - _offset(part.get("zone"))) / 24


def _short(part: dict[str, Any]) -> str:
    name = (part.get("name") or "")[:3].lower()
    return name if name in _MONTHS else ""


def _offset(zone: str | None) -> float:
    """Hours of a time zone ahead of UTC."""
    if zone in (None, "Z"):
        return 0.0
    digits = re.sub(r"\D", "", str(zone))
    hours = int(digits[:2]) + int(digits[2:]) / 60
    return -hours if str(zone).startswith("-") else hours


def date_forms(cells: Iterable[Any]) -> list[str]:
    """The forms in which every one of these cells is a date or a time."""
    there = list(dict.fromkeys(cells))
    forms = [f for f in FORMS if there and date_of(there[0], f) is not None]
    return [f for f in forms if all(date_of(cell, f) is not None for cell in there)]
