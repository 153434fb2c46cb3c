"""Gradients to the owners of their parts, added up there, and parameters back to all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Array, computed, is_narrow, view_as_real
from stepsize.collectives.layout import Layout, Part
from stepsize.collectives.sums import Share, mean_of
from stepsize.collectives.team import Team

BUCKET = 1 << 26  # bytes of a message; the next one is under way while one is added up

Bucket = list[list[Part]]  # of each rank


class Exchange:
    """Reduce-scatter and all-gather over the parts of a layout.

    Each rank sends every owner its piece and adds up what it gets in the order of `tree_sum`: as
    many bytes as a ring sends, (n - 1) / n of the leaves each way, and bits that depend on nothing
    but the numbers. Half precision travels in two bytes and is added up in float32.

    Args:
        team: the ranks.
        leaves: the arrays that gradients are of.
        layout: their parts and owners.
    """

    def __init__(self, team: Team, leaves: Sequence[Array], layout: Layout) -> None:
        self._team = team
        self._leaves = list(leaves)
        self._layout = layout
        self._buckets: dict[tuple[Any, ...], list[tuple[Any, Bucket]]] = {}
        self.sent = 0  # bytes to other ranks so far

    def reduce_scatter(self, grads: Sequence[Array | None], kinds: list[Any], share: Share) -> Any:
        """The means of this rank's own parts, flat and in their order.

        Args:
            grads: the gradients here, contiguous; None where this rank has none.
            kinds: for each leaf the dtype in which it travels, and the ranks that have a gradient;
                None for a leaf without one on any rank.
            share: how much each rank counts.
        """
        own = self._layout.parts[self._team.rank]
        means: list[Any] = []
        for part in own:
            kind = kinds[part.leaf]
            dtype = None if kind is None else np.dtype(computed(kind[0]))
            means.append(None if dtype is None else np.empty(part.size, dtype))
        place = {(part.leaf, part.start): k for k, part in enumerate(own)}
        travels = tuple(None if kind is None else kind[0] for kind in kinds)

        def start(dtype: Any, bucket: Bucket) -> Callable[[], Array]:
            send = [_numbers(grads[part.leaf], part, dtype) for parts in bucket for part in parts]
            return self._start(bucket, dtype, send, self._team.exchange)

        def finish(dtype: Any, bucket: Bucket, received: Array) -> None:
            at = 0
            for part in bucket[self._team.rank]:
                rows = received[:, at : at + part.size]
                at += part.size
                there = kinds[part.leaf][1]
                mean = mean_of(
                    [
                        _computed(row, dtype) if has else None
                        for row, has in zip(rows, there, strict=True)
                    ],
                    share,
                )
                owner = _holder(own, part)
                target = means[place[own[owner].leaf, own[owner].start]]
                offset = part.start - own[owner].start
                target[offset : offset + part.size] = 0 if mean is None else _as(mean, target.dtype)

        with np.errstate(all="ignore"):  # whoever uses the means says what is not finite
            self._pass(travels, start, finish)
        return means

    def all_gather(self, leaves: Sequence[Array], skip: Sequence[bool] | None = None) -> None:
        """Fill in the parts of all other ranks in these arrays; those of this rank are sent."""
        kinds = [
            None if skip is not None and skip[i] else leaf.dtype for i, leaf in enumerate(leaves)
        ]

        def start(dtype: Any, bucket: Bucket) -> Callable[[], Array]:
            send = [_numbers(leaves[part.leaf], part, dtype) for part in bucket[self._team.rank]]
            return self._start(bucket, dtype, send, self._team.collect)

        def finish(dtype: Any, bucket: Bucket, received: Array) -> None:
            at = 0
            for rank, parts in enumerate(bucket):
                for part in parts:
                    if rank != self._team.rank:
                        _put(leaves[part.leaf], part, received[at : at + part.size].view(dtype))
                    at += part.size

        self._pass(tuple(kinds), start, finish)

    def _start(
        self, bucket: Bucket, dtype: Any, send: list[Array], call: Callable[..., Any]
    ) -> Callable[[], Array]:
        wire = np.dtype(np.uint16) if is_narrow(dtype) else dtype
        counts = [sum(part.size for part in parts) for parts in bucket]
        message = np.concatenate(send) if send else np.empty(0, wire)
        here = counts[self._team.rank]
        others = self._team.size - 1
        scattered = call == self._team.exchange
        self.sent += wire.itemsize * (sum(counts) - here if scattered else here * others)
        found: Callable[[], Array] = call(np.ascontiguousarray(message), counts)
        return found

    def _pass(
        self,
        kinds: tuple[Any, ...],
        start: Callable[[Any, Bucket], Callable[[], Array]],
        finish: Callable[[Any, Bucket, Array], None],
    ) -> None:
        """All buckets, each started before the one before it is waited for."""
        under_way: tuple[Any, Bucket, Callable[[], Array]] | None = None
        for dtype, bucket in self._of(kinds):
            message = start(dtype, bucket)
            if under_way is not None:
                finish(*under_way[:2], under_way[2]())
            under_way = dtype, bucket, message
        if under_way is not None:
            finish(*under_way[:2], under_way[2]())

    def _of(self, kinds: tuple[Any, ...]) -> list[tuple[Any, Bucket]]:
        # By name: NumPy takes None for float64 where dtypes are compared.
        key = tuple(None if kind is None else kind.name for kind in kinds)
        if key not in self._buckets:
            if len(self._buckets) > 16:
                self._buckets.clear()
            self._buckets[key] = list(_buckets(self._layout, self._team.size, kinds))
        return self._buckets[key]


def _buckets(layout: Layout, size: int, kinds: Sequence[Any]) -> Iterator[tuple[Any, Bucket]]:
    """The parts by the dtype in which they travel, in pieces of limited size."""
    for dtype in dict.fromkeys(kind for kind in kinds if kind is not None):
        width = max(1, BUCKET // (size * dtype.itemsize))
        streams = [
            [part for part in parts if kinds[part.leaf] is not None and kinds[part.leaf] == dtype]
            for parts in layout.parts
        ]
        longest = max(sum(part.size for part in parts) for parts in streams)
        for first in range(0, longest, width):
            yield dtype, [list(_window(parts, first, first + width)) for parts in streams]


def _window(parts: Sequence[Part], first: int, last: int) -> Iterator[Part]:
    """What of the parts, laid side by side, lies between two places."""
    at = 0
    for leaf, start, stop in parts:
        low, high = max(first - at, 0), min(last - at, stop - start)
        if low < high:
            yield Part(leaf, start + low, start + high)
        at += stop - start


def _holder(own: Sequence[Part], piece: Part) -> int:
    """Which of the parts holds this piece of one."""
    return next(
        k
        for k, part in enumerate(own)
        if part.leaf == piece.leaf and part.start <= piece.start < part.stop
    )


def _numbers(array: Array | None, part: Part, dtype: Any) -> Array:
    """A part of an array as it travels; zeros where there is none."""
    wire = np.dtype(np.uint16) if is_narrow(dtype) else dtype
    if array is None:
        return np.zeros(part.size, wire)
    piece = np.asarray(array).reshape(-1)[part.start : part.stop]
    found: Array = piece.astype(dtype, copy=False).view(wire)
    return found


def _computed(row: Array, dtype: Any) -> Array:
    """What was received, in the type it is added up in; complex numbers as pairs."""
    if is_narrow(dtype):
        found: Array = row.view(dtype).astype(computed(dtype))
        return found
    return view_as_real(row)


def _as(mean: Array, dtype: Any) -> Array:
    return mean.reshape(-1).view(dtype) if dtype.kind == "c" else mean


def _put(array: Array, part: Part, values: Array) -> None:
    """Write a part of an array; one that is not contiguous is a part as a whole."""
    if array.flags.c_contiguous:
        array.reshape(-1)[part.start : part.stop] = values
    else:
        np.copyto(array, values.reshape(array.shape))
