"""Where the curves of a run leave doubt that an experiment would settle, and what that costs."""

from __future__ import annotations

import math

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures

# The verdicts that branches tell apart: no branch of a twentieth of a run sees a validation turn
# (though one may show that the rate, too high, has turned it), and what has diverged has none.
TOLD_BY_BRANCHES = ("too_high", "healthy", "too_low", "plateau", "converged", "underfitting")
# What `what_if` does when nothing else is asked of it.
BRANCHES, SHARE, FEWEST, HELD, MEMORISED = 4, 20, 10, 16, 0.1


def in_doubt(f: CurveFeatures, verdict: str, shares: dict[str, float]) -> bool:
    """Whether the verdict is not sure, and an experiment tells it from the others."""
    if f.broke_at is not None or f.movement.idle >= th.IDLE:
        return False
    if verdict == "overfitting":
        return shares[verdict] < th.ASK_OVERFITTING_BELOW
    return verdict in TOLD_BY_BRANCHES and shares[verdict] < th.ASK_BELOW


def cost_of(steps: int) -> int:
    """Gradients that `what_if` takes after so many steps, with its defaults.

    >>> cost_of(1000)
    397
    """
    branch = max(FEWEST, steps // SHARE)
    looks = HELD * (BRANCHES + 2)  # before, after each branch, and at the mean of the weights
    return BRANCHES * branch + looks + math.ceil(MEMORISED * steps) + 1
