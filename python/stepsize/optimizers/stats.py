"""What one step did, in numbers."""

from __future__ import annotations

import math
from typing import NamedTuple, Self


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
