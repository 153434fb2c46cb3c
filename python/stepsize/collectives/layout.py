"""Which rank owns which part of which leaf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stepsize import _core
from stepsize.arrays import Array

BLOCK = _core.chunk_size  # real numbers: what sums of rules are made of, and whole 8-bit blocks


class Part(NamedTuple):
    """Elements ``start`` to ``stop`` of a leaf as it lies in memory."""

    leaf: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many elements."""
        return self.stop - self.start


class Layout:
    """The parts of all leaves, and the rank that owns each.

    Leaves are cut at multiples of the block that sums are made of, so that sums over blocks in
    order have the bits that they have on one rank. Ranks get as much memory each, to within a
    block, or to within a leaf where leaves stay whole.

    Args:
        leaves: the arrays.
        size: how many ranks.
        cut: whether leaves may be cut; one that is not contiguous never is.

    Example:
        >>> import numpy as np
        >>> layout = Layout([np.zeros(40_000, np.float32), np.zeros(10)], 2)
        >>> [[tuple(part) for part in parts] for parts in layout.parts]
        [[(0, 0, 16384)], [(0, 16384, 40000), (1, 0, 10)]]
    """

    def __init__(self, leaves: Sequence[Array], size: int, cut: bool = True) -> None:
        pieces = [piece for i, leaf in enumerate(leaves) for piece in _pieces(i, leaf, cut)]
        weights = [piece.size * leaves[piece.leaf].itemsize for piece in pieces]
        owners = _in_order(weights, size) if cut else _largest_first(weights, size)
        self.parts: list[list[Part]] = [[] for _ in range(size)]
        for piece, owner in zip(pieces, owners, strict=True):
            own = self.parts[owner]
            if own and own[-1].leaf == piece.leaf and own[-1].stop == piece.start:
                own[-1] = Part(piece.leaf, own[-1].start, piece.stop)
            else:
                own.append(piece)

    def of(self, leaf: int) -> Iterator[tuple[int, Part]]:
        """The parts of a leaf in order, each with its owner."""
        found = [
            (part.start, rank, part)
            for rank, parts in enumerate(self.parts)
            for part in parts
            if part.leaf == leaf
        ]
        for _, rank, part in sorted(found):
            yield rank, part


def block_of(leaf: Array) -> int:
    """How many elements of a leaf are a block; a complex number is two real ones."""
    return BLOCK // 2 if leaf.dtype.kind == "c" else BLOCK


def _pieces(i: int, leaf: Array, cut: bool) -> Iterator[Part]:
    block = block_of(leaf) if cut and leaf.flags.c_contiguous else max(1, leaf.size)
    for start in range(0, max(1, leaf.size), block):
        yield Part(i, start, min(start + block, leaf.size))


def _in_order(weights: Sequence[int], size: int) -> list[int]:
    """Owners of pieces in their order: each gets those whose middle lies in its share."""
    total, before, owners = max(1, sum(weights)), 0, []
    for weight in weights:
        owners.append(min(size - 1, (2 * before + weight) * size // (2 * total)))
        before += weight
    return owners


def _largest_first(weights: Sequence[int], size: int) -> list[int]:
    """Owners of pieces that stay whole: the largest first, to the rank that has least."""
    owners, loads = [0] * len(weights), [0] * size
    for k in sorted(range(len(weights)), key=lambda k: -weights[k]):
        owners[k] = min(range(size), key=lambda rank: loads[rank])
        loads[owners[k]] += weights[k]
    return owners
