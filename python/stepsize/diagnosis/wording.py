"""Numbers in sentences: as many digits as tell them apart, and words that agree with them."""

from __future__ import annotations

import math

LEAST_TOLD = 0.001  # share; what would be rounded to less is only said to be less, or nearly all


def words(verdict: str) -> str:
    """A verdict as one says it: "too high" for "too_high"."""
    return verdict.replace("_", " ")


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers, with as many digits as tell them apart.

    >>> apart(1000.25, 1000.5)
    ('1000.25', '1000.5')
    """
    top = max(abs(a), abs(b)) or 1.0
    gap = abs(a / top - b / top)  # of any scale
    digits = 3 + min(9, max(0, math.floor(math.log10(1 / min(max(gap, 1e-12), 1.0)))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def went(start: float, end: float) -> str:
    """What a level did.

    >>> went(2.0, 1.0), went(1.0, 2.0), went(1.0, 1.0)
    ('fell from 2 to 1', 'rose from 1 to 2', 'stayed at 1')
    """
    a, b = apart(start, end)
    if a == b:
        return f"stayed at {a}"
    return f"{'fell' if end < start else 'rose'} from {a} to {b}"


def beside(end: float, start: float) -> str:
    """Where a level is, seen from its start.

    >>> beside(1.0, 2.0), beside(2.0, 1.0)
    ('1, down from 2', '2, above its start of 1')
    """
    a, b = apart(end, start)
    if a == b:
        return f"{a}, where it started"
    return f"{a}, down from {b}" if end < start else f"{a}, above its start of {b}"


def percent(share: float) -> str:
    """A share as per cent; what is neither nothing nor all is not rounded to it.

    >>> percent(0.5), percent(0.9991), percent(1.0), percent(1e-5)
    ('50%', '99.9%', '100%', 'less than 0.1%')
    """
    if 0 < abs(share) < LEAST_TOLD / 2:
        return f"less than {LEAST_TOLD:.1%}"
    if 1 - LEAST_TOLD / 2 < share < 1:
        return f"more than {1 - LEAST_TOLD:.1%}"
    near = 0 < abs(share) < 0.01 or 0.99 < share < 1
    return f"{share:.0%}" if not near else f"{share:.1%}"


def series_name(name: str) -> str:
    """A series as one says it.

    >>> series_name("val_loss"), series_name("val_accuracy")
    ('validation loss', 'validation accuracy')
    """
    return name.replace("val_", "validation ", 1).replace("_", " ")


def share_of(part: float) -> str:
    """A share of something as per cent, or as a multiple where it is far more than the whole."""
    return f"{part:.0%} of" if part < 1.5 else f"{part:.2g} times"
