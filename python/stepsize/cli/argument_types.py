"""Words of the command line as numbers and names; a word that is none is refused with why."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

__all__ = ["at_least", "folder", "names", "number", "positive", "rates", "sizes"]


def at_least(least: int) -> Callable[[str], int]:
    """The type of a whole number that has a least value."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r:.80}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return whole


def number(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text!r:.80}")
    return value


def folder(text: str) -> Path:
    """The path of a folder, which need not be there yet."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a folder, got ''")
    return Path(text)


positive = at_least(1)


def sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers, such as 64,32, got {text!r}"
        ) from None
    if sizes == (0,):
        return ()
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"layers need at least 1 unit, got {text}")
    return sizes


def rates(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < rate < math.inf for rate in found):
        raise argparse.ArgumentTypeError(
            f"must be numbers above 0, such as 0.1,1,10, got {text!r:.80}"
        )
    return found


def names(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"must be names, such as SGD,Adam, got {text!r:.80}")
    return found
