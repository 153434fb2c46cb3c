"""What one step did, in numbers."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np

from stepsize.arrays import LEAST_SUM, Array

# The sums of squares of gradients, parameters and updates; then those of numbers times 2^600, where
# a sum is next to nothing; then over 2^600, where one is beyond measure.
Sums = tuple[float, float, float, float, float, float, float, float, float]
MOST_SUM = 1e200  # from it on numbers are summed up over 2^600 too


def extremes(plain: float, values: Array, before: Array | None = None) -> tuple[float, float]:
    """What the plain sum of squares cannot hold, to scale: of small numbers, and of large ones."""
    if values.dtype != np.float64 or LEAST_SUM <= plain < MOST_SUM:
        return 0.0, 0.0
    old = np.zeros(()) if before is None else before
    if plain < LEAST_SUM:
        return _in_order((values - old) * 2.0**600), 0.0
    return 0.0, _in_order(values * 2.0**-600 - old * 2.0**-600)


def _in_order(values: Array) -> float:
    return float(np.cumsum(np.square(values))[-1]) if values.size else 0.0


class StepStats(NamedTuple):
    """What one step did, all norms over all leaves together.

    Attributes:
        grad_norm: Norm of the gradients as given, before clipping.
        update_norm: Norm of the change of the parameters.
        param_norm: Norm of the parameters before the step.
        update_ratio: ``update_norm / param_norm`` (infinite or NaN where ``param_norm`` is 0).
        nonfinite: How many gradient values were NaN or infinite.
    """

    grad_norm: float
    update_norm: float
    param_norm: float
    update_ratio: float
    nonfinite: int

    @classmethod
    def of(cls, grad_norm: float, update_norm: float, param_norm: float, nonfinite: int) -> Self:
        """The statistics with the ratio of the norms."""
        nothing = math.inf if update_norm else math.nan
        ratio = update_norm / param_norm if param_norm else nothing
        return cls(grad_norm, update_norm, param_norm, ratio, nonfinite)
