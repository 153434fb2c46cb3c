"""Units that get no gradient: exactly 0 in whole rows and columns of the weights around them.

A unit between two weights, as a ReLU that never fires, has a gradient of 0 in its column of the one
and in its row of the other. An input that is always 0 has it in one weight alone, and is no unit.
Two frozen weights have it everywhere, as around a layer that is dead as a whole; but after that
the next bias still learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, Structure, as_numpy
from stepsize.optimizers import RowGradient

FEWEST_LOOKS = 12  # fewer say nothing
LEAST = 0.5  # of the larger of two sets of zeros: what both must share to be of the same units


class Silence:
    """Looks at gradients, and keeps for each row and column when it was last other than 0."""

    def __init__(self, params: Nest, start: int = 0) -> None:
        self._structure = Structure(params)
        self._before = start - 1  # the step of the last gradient of a unit that has had none
        self._seen: dict[tuple[str, int], Array] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._steps: list[int] = []

    def look(self, grads: Nest, step: int) -> None:
        """Take the gradient of a step into account."""
        self._steps.append(step)
        given: list[Any] = self._structure.spec.flatten_up_to(grads)
        for path, gradient in zip(self._structure.paths, given, strict=True):
            if gradient is None or isinstance(gradient, RowGradient) or np.ndim(gradient) < 1:
                continue
            known = as_numpy(gradient) != 0
            self._shapes[path] = known.shape
            for axis in _axes(known.ndim):
                others = tuple(k for k in range(known.ndim) if k != axis)
                fresh = np.full(known.shape[axis], self._before)
                last = self._seen.setdefault((path, axis), fresh)
                last[known.any(axis=others)] = step

    @property
    def looks(self) -> int:
        """How many gradients were looked at."""
        return len(self._steps)

    def units(self) -> list[dict[str, Any]]:
        """Units without a gradient at the later half of the looks, with the weights around them.

        `dead` of the `of` units between two `leaves`, `since` the step after which none of them had
        one, -1 where none ever had, `looks` how many there were. Each weight axis is told of once.
        """
        if not self._steps:
            return []
        middle = self._steps[(len(self._steps) - 1) // 2] if len(self._steps) > 1 else self._before
        zeros = {place: last <= middle for place, last in self._seen.items()}
        weights = {place for place in zeros if len(self._shapes[place[0]]) > 1}
        silent = {place: zeros[place] for place in zeros if place in weights and zeros[place].any()}
        biases = [zero for place, zero in zeros.items() if place not in weights]
        return [
            {
                "dead": int(both.sum()),
                "of": len(both),
                "looks": len(self._steps),
                "leaves": [first[0], second[0]],
                "since": int(max(self._seen[first][both].max(), self._seen[second][both].max())),
            }
            for first, second, both in _pairs(silent)
            if not both.all() or self._is_layer(first, second, biases)
        ]

    def _is_layer(
        self, first: tuple[str, int], second: tuple[str, int], biases: list[Array]
    ) -> bool:
        """Whether two weights without any gradient enclose a dead layer: they may be frozen.

        Its own bias, where it has one, has none either, and that of the next layer learns.
        """
        shapes = [(axis, self._shapes[path]) for path, axis in (first, second)]
        ends = {n for axis, shape in shapes for k, n in enumerate(shape) if k != axis}
        own = [zero.all() for zero in biases if len(zero) == shapes[0][1][first[1]]]
        return any(len(z) in ends and not z.all() for z in biases) and (not own or any(own))


def _axes(ndim: int) -> list[int]:
    """Where units are counted: rows and columns, or channels at either end of the shape."""
    return sorted({0, 1, ndim - 2, ndim - 1} if ndim > 1 else {0})


def _pairs(
    silent: dict[tuple[str, int], Array],
) -> Iterator[tuple[tuple[str, int], tuple[str, int], Array]]:
    used: set[tuple[str, int]] = set()
    places = list(silent)
    for k, first in enumerate(places):
        for second in places[k + 1 :]:
            a, b = silent[first], silent[second]
            apart = first[0] != second[0] and first[1] != second[1] and len(a) == len(b) > 1
            if not apart or first in used or second in used:
                continue
            both = a & b
            if both.sum() >= LEAST * max(a.sum(), b.sum()):
                used |= {first, second}
                yield first, second, both
