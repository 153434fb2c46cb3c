"""Sums over ranks in a fixed order, so that their bits do not depend on who comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stepsize.arrays import Array


def tree_sum(values: Sequence[Any], add: Callable[[Any, Any], Any] = np.add) -> Any:
    """The sum of values, two neighbours at a time, then two sums, and so on; None stays out.

    Example:
        >>> tree_sum(["a", "b", "c", None, "e"], lambda a, b: f"({a}{b})")
        '(((ab)c)e)'
    """
    found = list(values)
    while len(found) > 1:
        pairs = [found[k : k + 2] for k in range(0, len(found), 2)]
        found = [_of_pair(pair, add) for pair in pairs]
    return found[0] if found else None


def _of_pair(pair: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    there = [value for value in pair if value is not None]
    return add(*there) if len(there) == 2 else there[0] if there else None


@dataclass(frozen=True)
class Share:
    r"""How much each rank counts in a mean over all rows.

    .. math::
        \bar g = \frac{1}{\sum_r n_r} \sum_r n_r g_r

    The sum is that of `tree_sum`. Where all ranks with rows have as many, each weighs 1 and the sum
    is divided by their number, as gradient accumulation does in one process.

    Attributes:
        weights: of each rank, 0 for one without rows.
        factor: what the sum is multiplied with.
        rows: of all ranks.
    """

    weights: tuple[float, ...]
    factor: float
    rows: float

    @classmethod
    def of(cls, rows: Sequence[float]) -> Self:
        """The shares of ranks with so many rows."""
        there = [count for count in rows if count > 0]
        if not there:
            return cls(tuple(0.0 for _ in rows), 0.0, 0.0)
        alike = len(set(there)) == 1
        weights = tuple(float(count > 0) if alike else float(count) for count in rows)
        return cls(weights, 1 / (len(there) if alike else sum(there)), float(sum(there)))


def mean_of(parts: Sequence[Any], share: Share) -> Any:
    """The mean of numbers or arrays of the ranks; None for a rank that has none.

    Example:
        >>> mean_of([1.0, 4.0], Share.of([8, 8])), mean_of([1.0, 4.0], Share.of([2, 1]))
        (2.5, 2.0)
    """
    weighted = [
        None if part is None or weight == 0 else times(part, weight)
        for part, weight in zip(parts, share.weights, strict=True)
    ]
    total = tree_sum(weighted, lambda a, b: a + b)
    return None if total is None else times(total, share.factor)


def times(part: Any, factor: float) -> Any:
    """A number or an array times a factor, in its own type."""
    if factor == 1:
        return part
    return part * part.dtype.type(factor) if isinstance(part, np.ndarray) else part * factor


def ordered_total(terms: Array) -> Array:
    """The sums of the columns, row after row, as a loop would add them up."""
    if not len(terms):
        return np.zeros(terms.shape[1])
    found: Array = np.add.accumulate(terms, axis=0)[-1]
    return found
