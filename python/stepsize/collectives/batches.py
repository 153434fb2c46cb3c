"""The part of a batch that a rank evaluates."""

from __future__ import annotations

from typing import Any

__all__ = ["own_rows", "spread"]


def spread(rows: int, rank: int, size: int) -> slice:
    """The rows of a rank: in order, and as many each but for one.

    Example:
        >>> [spread(7, rank, 3) for rank in range(3)]
        [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    each, more = divmod(rows, size)
    first = rank * each + min(rank, more)
    return slice(first, first + each + (rank < more))


def own_rows(batch: Any, rank: int, size: int) -> tuple[Any, int]:
    """The rows of a batch, a tuple of arrays, that are a rank's own, and how many they are."""
    chosen = spread(batch[0].shape[0], rank, size)
    return tuple([part[chosen] for part in batch]), chosen.stop - chosen.start
