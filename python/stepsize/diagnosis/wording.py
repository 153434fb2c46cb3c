"""Numbers in sentences: as many digits as tell them apart, and words that agree with them."""

from __future__ import annotations

import math


def words(verdict: str) -> str:
    """A verdict as one says it: "too high" for "too_high"."""
    return verdict.replace("_", " ")


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers, with as many digits as tell them apart.

    >>> apart(1000.25, 1000.5)
    ('1000.25', '1000.5')
    """
    nearest = max(abs(a), abs(b)) / max(abs(a - b), 1e-300)
    digits = 3 + min(9, max(0, math.floor(math.log10(max(nearest, 1.0)))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def share_of(part: float) -> str:
    """A share of something as per cent, or as a multiple where it is far more than the whole."""
    return f"{part:.0%} of" if part < 1.5 else f"{part:.2g} times"
