"""What the gradients at both ends of a step say of the change of the loss over it.

For a step d from x to x + d, of any rule::

    start = g(x) . d        end = g(x + d) . d

Between them lies the change of a loss whose slope along the step is monotone. The gradient at the
end is of another batch than the one the step was made of, so that its noise does not add up.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, Structure, as_numpy, is_narrow, sum_of_squares
from stepsize.optimizers import RowGradient
from stepsize.optimizers.half import to_float32


class Move:
    """Steps of parameters: `begin`, then `made` at the end of a step, then `along` gradients."""

    def __init__(self, params: Nest) -> None:
        self._structure = Structure(params)
        self._moves: list[Array] = []

    def begin(self) -> None:
        """A step begins where the parameters are now; memory of the last one is used again."""
        leaves = self._structure.leaves
        if not self._moves:
            self._moves = [np.array(to_float32(leaf), order="C") for leaf in leaves]
            return
        for move, leaf in zip(self._moves, leaves, strict=True):
            move[...] = leaf

    def made(self) -> None:
        """The parameters are at the end of the step."""
        for move, leaf in zip(self._moves, self._structure.leaves, strict=True):
            np.subtract(to_float32(leaf), move, out=move)

    def end(self) -> None:
        """Free the memory until the next step."""
        self._moves = []

    def along(self, grads: Nest) -> float:
        """The product of gradient and step; a leaf without a gradient adds nothing."""
        given = self._structure.spec.flatten_up_to(grads)
        return float(sum(map(_product, given, self._moves)))

    def moving(self, still: Container[str]) -> float:
        """The norm of the leaves that are not still, as a share of that of all."""
        pairs = zip(self._structure.paths, self._structure.leaves, strict=True)
        squares = {path: sum_of_squares(leaf) for path, leaf in pairs}
        every = sum(squares.values())
        part = sum(square for path, square in squares.items() if path not in still)
        return math.sqrt(part / every) if 0 < every < math.inf else 0.0

    def still(self, grads: Nest) -> set[str]:
        """The leaves whose gradient is 0 in every element."""
        given = self._structure.spec.flatten_up_to(grads)
        pairs = zip(self._structure.paths, given, strict=True)
        return {path for path, g in pairs if g is not None and not np.any(_numbers(g))}


def _numbers(gradient: Any) -> Array:
    values = gradient.values if isinstance(gradient, RowGradient) else as_numpy(gradient)
    return to_float32(values) if is_narrow(values.dtype) else values


def _product(gradient: Any, move: Array) -> float:
    if gradient is None:
        return 0.0
    if isinstance(gradient, RowGradient):
        move = move[gradient.rows]
    return float(np.vdot(_numbers(gradient), move).real)
