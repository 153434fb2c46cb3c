"""Batches by number, so that several trials can see the same ones."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from stepsize.arrays import (
    data_set,
    flatten,
    listed,
    owned,
    read_only,
    refuse_unpacked,
)
from stepsize.validation import whole

DEFAULT_SIZE = 32  # rows of a batch cut from arrays, as in `fit`


def source_of(
    batches: Any, batch_size: int | None, owner: str = "lr_find", drop_last: bool = False
) -> Any:
    """The batches as given, or those cut from a tuple of arrays, as `fit` takes it."""
    arrays = data_set(f"{owner}: batches", batches)
    refuse_unpacked(f"{owner}: batches", batches)
    if arrays is None:
        if batch_size is not None:
            raise ValueError(
                f"{owner}: batch_size={batch_size!r:.40} cuts a tuple of arrays (x, y) into "
                "batches; leave it out where batches are given"
            )
        if isinstance(batches, str | bytes | dict):
            raise TypeError(
                "lr_find: batches must be an iterable of batches, a function that returns one, or "
                f"a tuple of arrays (x, y), got a {type(batches).__name__}"
            )
        return batches
    for part in arrays:
        if hasattr(part, "iloc"):
            raise TypeError(f"{owner}: a {type(part).__name__} is no array, give .to_numpy()")
    size = DEFAULT_SIZE if batch_size is None else whole(f"{owner}: batch_size", batch_size)
    lengths = {part.shape[0] if part.shape else None for part in arrays}
    if len(lengths) > 1 or None in lengths:
        shapes = ", ".join(str(tuple(part.shape)) for part in arrays)
        raise ValueError(
            f"{owner}: a tuple of arrays is one data set, whose arrays agree in their first axis, "
            f"got {shapes}; give a list of batches as [(x, y), ...]"
        )
    if not lengths - {0}:
        raise ValueError(f"{owner}: batches is empty; give arrays with at least one row")
    return _Cut(arrays, size, drop_last)


class _Cut:
    """The rows of arrays in batches, in an order of its own for each epoch."""

    def __init__(self, arrays: tuple[Any, ...], size: int, drop_last: bool) -> None:
        self._arrays, self._size, self._drop_last = arrays, size, drop_last
        self._epoch = itertools.count()

    @property
    def rows(self) -> int:
        """The rows of the arrays."""
        return int(self._arrays[0].shape[0])

    def __call__(self) -> Iterator[tuple[Any, ...]]:
        rows = self.rows
        if self._size >= rows:
            yield tuple(part[:] for part in self._arrays)
            return
        order = np.random.default_rng((0, next(self._epoch))).permutation(rows)
        end = rows - rows % self._size if self._drop_last else rows
        for start in range(0, end, self._size):
            yield tuple(part[order[start : start + self._size]] for part in self._arrays)


def is_cut(batches: Any) -> bool:
    """Whether `source_of` has cut them from arrays."""
    return isinstance(batches, _Cut)


def hint(batches: Any) -> str:
    """What may be wrong with batches that the function does not take."""
    if isinstance(batches, _Cut):
        return (
            "lr_find: a tuple of arrays is one data set, whose batches are tuples of rows of each; "
            "give batches as a list"
        )
    return listed("lr_find: batches", batches) or ""


def _place(leaf: Any) -> Any:
    """What two leaves in the same memory share."""
    return leaf.__array_interface__["data"][0] if isinstance(leaf, np.ndarray) else id(leaf)


def _owner(leaf: Any) -> Callable[[], Any]:
    """What gives the owner of a leaf's memory, None once that may be another's."""
    while isinstance(leaf, np.ndarray) and isinstance(leaf.base, np.ndarray):
        leaf = leaf.base
    try:
        return weakref.ref(leaf)
    except TypeError:
        return lambda: (leaf,)


def _equal(one: Any, other: Any) -> bool:
    """Whether two leaves are alike in all that a function can see of them, to the bit."""
    if one is other:
        return True
    if type(one) is not type(other) or not hasattr(one, "__array__"):
        return False
    if isinstance(one, np.ma.MaskedArray):
        return False
    try:
        a, b = np.asarray(one), np.asarray(other)
    except (TypeError, RuntimeError):  # a tensor that NumPy cannot read
        return False
    if (a.dtype, a.shape, _axes(a)) != (b.dtype, b.shape, _axes(b)) or a.dtype.hasobject:
        return False
    if a.itemsize not in (1, 2, 4, 8):
        return a.tobytes() == b.tobytes()
    return np.array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{a.itemsize}"))


def _axes(array: Any) -> list[int]:
    """The axes by their distance in memory, which decides in which order a sum is taken."""
    return sorted(range(array.ndim), key=lambda k: abs(array.strides[k]))


class CachedBatches:
    """Batches by number; a short source is opened again at its end, or cycled if it cannot be.

    What is handed out one by one is copied, since a loader may fill the same arrays again, in turn
    or not; a list or tuple holds all of its batches at once and is not. Batches that come again
    with the same numbers in the same arrays are kept once. NumPy arrays are read-only views.
    """

    def __init__(
        self, source: Iterable[Any] | Callable[[], Iterable[Any]], owner: str = "lr_find"
    ) -> None:
        self.source = source
        self._owner = owner
        self._apart = False  # whether no batch is written over by the next one
        self._more = self._open()
        self._again = callable(source) or self._more is not source
        self._kept: dict[int, Any] = {}
        self._read = 0
        self._size: int | None = None
        # By structure and places of leaves: what owns that memory, and the batch that was kept.
        self._seen: dict[tuple[Any, ...], tuple[tuple[Callable[[], Any], ...], Any]] = {}

    def _open(self) -> Iterator[Any]:
        made = self.source() if callable(self.source) else self.source
        self._apart = isinstance(self.source, _Cut) or isinstance(made, list | tuple)
        try:
            return iter(made)
        except TypeError:
            raise TypeError(
                f"{self._owner}: batches must be an iterable of batches or a function without "
                f"arguments that returns one, got {type(made).__name__}; wrap a single batch as "
                "[batch]"
            ) from None

    def __getitem__(self, number: int) -> Any:
        while self._read <= number and self._size is None:
            for batch in self._more:
                self._kept[self._read] = self._own(batch)
                self._read += 1
                break
            else:
                if not self._read:
                    raise ValueError(f"{self._owner}: batches is empty; give at least one batch")
                if self._again:
                    self._more = self._open()
                else:
                    self._size = self._read
        return self._kept[number if self._size is None else number % self._size]

    def _own(self, batch: Any) -> Any:
        """The batch, or a copy where its arrays may be filled again."""
        if self._apart:
            return read_only(batch)  # for several trials see it
        leaves, _, spec = flatten(batch)
        places = (spec, *map(_place, leaves))  # arrays may come again under other names
        owners, kept = self._seen.get(places, ((), None))
        alive = places in self._seen and all(owner() is not None for owner in owners)
        if alive:
            known = flatten(kept)[0]
            if len(known) == len(leaves) and all(map(_equal, leaves, known)):
                return kept
        own = read_only(owned(batch))
        self._seen[places] = tuple(map(_owner, leaves)), own
        return own

    def where(self, number: int) -> Any:
        """What two numbers share that stand for the same batch."""
        leaves, _, spec = flatten(self[number])
        return (spec, *map(_place, leaves))

    def forget(self, below: int) -> None:
        """Drop batches that are not asked for again."""
        if self._again:
            for number in [n for n in self._kept if n < below]:
                del self._kept[number]
            alive = set(map(id, self._kept.values()))
            self._seen = {at: seen for at, seen in self._seen.items() if id(seen[1]) in alive}
