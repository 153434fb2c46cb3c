"""The rate at which a step along an optimizer's own update no longer lowers the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest, copy, flatten
from stepsize.finder.trials import RateStepper

BISECTIONS = 2  # of the last doubling, before the parabola: 2**(1/4) between its ends
MOST_DOUBLINGS = 40  # a loss that falls, or rises, over 12 decades has no critical rate
FIRST_RATE = 1e-3  # of the trial step where the optimizer's rate is 0 now

Loss = Callable[[Nest], float]


class UpdateLine:
    """The line of an optimizer's next update: points at a rate, from copies alone."""

    def __init__(self, params: Nest, optimizer: Any, grads: Nest, loss: float) -> None:
        rates = np.atleast_1d(np.asarray(optimizer.lr, np.float64))
        self.lr = float(rates.max())
        moved = copy(params)
        rate = self.lr if self.lr > 0 else FIRST_RATE
        RateStepper(optimizer.clone(moved), moved).step(grads, rate, loss)
        self._start = flatten(params)[0]
        self._params = params
        pairs = zip(flatten(moved)[0], self._start, strict=True)
        self._moves = [(_wide(after) - _wide(before)) / rate for after, before in pairs]

    def point(self, rate: float) -> Nest:
        """The parameters after this update at a rate."""
        made = copy(self._params)
        leaves: list[Array] = flatten(made)[0]
        for leaf, start, move in zip(leaves, self._start, self._moves, strict=True):
            leaf[...] = _wide(start) + rate * move
        return made


def _wide(leaf: Array) -> Array:
    return leaf.astype(np.complex128 if leaf.dtype.kind == "c" else np.float64)


def critical_rate(line: UpdateLine, loss: Loss, start: float, guess: float) -> tuple[float, float]:
    """The rate where the loss is back at its `start`, and the lowest rate tried above it.

    Doubling or halving from the guess brackets it, bisection halves the bracket in the logarithm,
    and ``(loss - start) / rate``, which is a straight line where the loss is a parabola, gives it.
    Infinite where the loss never rises, 0 where it always does.
    """

    def height(rate: float) -> float:
        with np.errstate(all="ignore"):
            value = loss(line.point(rate))
        return value - start if math.isfinite(value) else math.inf

    low, below = 0.0, math.nan
    high, above = math.inf, math.nan
    rate = guess
    for _ in range(MOST_DOUBLINGS):
        found = height(rate)
        if found > 0:
            high, above = rate, found
        else:
            low, below = rate, found
        if low > 0 and high < math.inf:
            break
        rate = rate * 2 if high == math.inf else rate / 2
    else:
        return (math.inf if low > 0 else 0.0), high
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        found = height(middle)
        if found > 0:
            high, above = middle, found
        else:
            low, below = middle, found
    if not math.isfinite(above):
        return math.sqrt(low * high), high
    left, right = below / low, above / high
    share = left / (left - right) if left < right else 0.5
    return low + share * (high - low), high
