"""The rows of a batch: what its mean loss weighs in a mean over several batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

USUAL = (tuple, dict, list)
NO_ROWS = (str, bytes, bytearray, int, float, complex)  # text has a length, and no rows


@dataclass(frozen=True, eq=False)
class _Uncounted:
    """A batch in which nothing can be counted; only the same one again is as large for sure."""

    batch: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Uncounted) and other.batch is self.batch


@dataclass
class _Lengths:
    """Lengths found in a batch: of first axes, of lists and ranges, and of what else has one."""

    axes: list[int] = field(default_factory=list)
    lists: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)  # of lists of arrays: samples, or parts

    def take(self, part: Any) -> None:
        """Look through a part of the batch."""
        shape = getattr(part, "shape", None)
        if isinstance(shape, Iterable):
            axes = tuple(shape)
            if axes and isinstance(axes[0], int):
                self.axes.append(int(axes[0]))
        elif isinstance(part, Mapping | tuple):
            for member in part.values() if isinstance(part, Mapping) else part:
                self.take(member)
        elif isinstance(part, list | range):
            if any(getattr(member, "shape", ()) for member in part[:2]):
                self.members.append(len(part))
                for member in part:
                    self.take(member)
            else:
                self.lists.append(len(part))
        elif not isinstance(part, NO_ROWS) and hasattr(type(part), "__len__"):
            self.others.append(len(part))


def rows_of(batch: Any) -> tuple[int, Any]:
    """The rows of a batch, and None where they are sure.

    They are the first axis of the first array that has axes; without any, the length of the first
    list or range, then of what else has one; 1 where nothing can be counted. Where arrays disagree,
    a list of arrays may be samples or parts, or nothing was counted, what was seen comes second:
    batches in which the same was seen are of one size.

    Raises:
        ValueError: a batch without rows.

    Example:
        >>> import numpy as np
        >>> rows_of((np.zeros((8, 3)), np.zeros(8))), rows_of(range(5)), rows_of({"x": [1, 2]})
        ((8, None), (5, None), (2, None))
        >>> rows_of((np.zeros((7, 2)), np.zeros(4)))
        (7, ('axes', 7, 4))
    """
    kind = type(batch)
    if kind in USUAL:  # in a tenth of the time
        parts = tuple(batch.values()) if kind is dict else batch
        try:
            rows = parts[0].shape[0]
            if rows and type(rows) is int:
                for part in parts:
                    if part.shape[0] != rows:
                        break
                else:
                    return rows, ("members", len(batch)) if kind is list else None
        except (AttributeError, IndexError, TypeError):
            pass
    found = _Lengths()
    found.take(batch)
    for what, lengths in (("axes", found.axes), ("lists", found.lists), ("others", found.others)):
        if not lengths:
            continue
        if not lengths[0]:
            raise ValueError(
                "a batch has no rows, its first array or list is empty: leave empty batches out, "
                "or give count="
            )
        if len(set(lengths)) > 1:
            return lengths[0], (what, *lengths)
        several = what == "axes" and found.members
        return lengths[0], ("members", *found.members) if several else None
    return 1, _Uncounted(batch)


_NONE_YET = object()


class RowCounter:
    """The rows of each batch of one data set; `tell` warns once where weights are not sure.

    Args:
        label: the data set, as in "fit: train".
    """

    def __init__(self, label: str):
        self._label = label
        self._doubt = ""
        self._told = False
        self._first: Any = _NONE_YET

    def begin(self) -> None:
        """Begin another mean: only batches of one mean have to be of one size."""
        self._first = _NONE_YET
        self._doubt = ""

    def __call__(self, batch: Any) -> float:
        """The rows of a batch, by `rows_of`."""
        rows, seen = rows_of(batch)
        if seen is not self._first:
            if self._first is _NONE_YET:
                self._first = seen
            elif not self._told and not self._doubt and seen != self._first:
                self._doubt = _doubt(self._first if seen is None else seen, batch)
        return rows

    def tell(self) -> None:
        """Warn, once, if the batches since `begin` cannot be weighed for sure."""
        if self._doubt and not self._told:
            self._told = True
            warnings.warn(f"{self._label}: {self._doubt}", UserWarning, stacklevel=3)


def _doubt(seen: Any, batch: Any) -> str:
    """What was seen, what is done, and the cure."""
    if isinstance(seen, _Uncounted):
        kind = type(seen.batch).__name__
        return (
            f"a batch is of type {kind}, in which no rows can be counted, so that means over "
            "batches take it for one row; give count=lambda batch: ... the number of its rows, "
            "or count=lambda batch: 1 where all batches have as many"
        )
    kind, *lengths = seen
    if kind == "members":
        return (
            f"a batch is a list of {lengths[0]} arrays, and other batches are not: whether these "
            "are samples or parts cannot be told, and means over batches weigh it by the first "
            "axis of the first; give count=lambda batch: ... the number of its rows"
        )
    what = "arrays disagree in their first axes" if kind == "axes" else "parts differ in length"
    return (
        f"the {what} in a batch ({', '.join(map(str, lengths[:8]))}), so that means over batches "
        f"weigh it by the first of them, {lengths[0]}; give count=lambda batch: ... the number of "
        "its rows"
    )
