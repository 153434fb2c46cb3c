"""What the gradients at both ends of a step say of the change of the loss over it.

For a step d from x to x + d, of any rule::

    start = g(x) . d        end = g(x + d) . d

Between them lies the change of a loss whose slope along the step is monotone. The gradient at the
end is of another batch than the one the step was made of, so that its noise does not add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, Structure
from stepsize.optimizers import RowGradient
from stepsize.optimizers.half import to_float32


class Move:
    """A step from where the parameters are now to where they are when `made` is called."""

    def __init__(self, params: Nest) -> None:
        self._structure = Structure(params)
        self._before = [np.array(leaf) for leaf in self._structure.leaves]

    def made(self, params: Nest) -> None:
        """The parameters are now at the end of the step."""
        now = self._structure.flatten(params)
        self._before = [_difference(b, a) for b, a in zip(now, self._before, strict=True)]

    def along(self, grads: Nest) -> float:
        """The product of gradient and step; a leaf without a gradient adds nothing."""
        given = self._structure.flatten(grads)
        return sum(map(_product, given, self._before))

    def still(self, grads: Nest) -> set[str]:
        """The leaves whose gradient is 0 in every element."""
        given = self._structure.flatten(grads)
        pairs = zip(self._structure.paths, given, strict=True)
        return {path for path, g in pairs if g is not None and not np.any(_numbers(g))}


def _difference(now: Array, before: Array) -> Array:
    return to_float32(np.asarray(now)) - to_float32(before)


def _numbers(gradient: Any) -> Array:
    values = gradient.values if isinstance(gradient, RowGradient) else np.asarray(gradient)
    return to_float32(values)


def _product(gradient: Any, move: Array) -> float:
    if gradient is None:
        return 0.0
    if isinstance(gradient, RowGradient):
        move = move[gradient.rows]
    return float(np.vdot(_numbers(gradient), move).real)
