"""How fast a loss still falls, and what that leaves: the words and the line to a run at rest."""

from __future__ import annotations

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.validation import counted

PER = (1000, 100, 10, 1)  # steps that a slope is told for: the first that half of the run has
FEWEST_HALF = 4  # losses of the last half, for a slope
ROUNDING = 1e-12  # of the loss: a smaller change over half of the run is none


def creeps(f: CurveFeatures) -> bool:
    """Whether a loss at rest by its last half still falls, by more than its noise and than nothing.

    As many steps again would then gain more than the definition of a converged run allows. Under a
    rate that has come down to its end the last decreases are those of the decay.
    """
    trend = f.trend
    sure = trend.late_decrease_z > th.CREEP_Z and trend.slope > th.CREEP_Z * trend.slope_error
    return sure and trend.forecast > th.CREEP and f.movement.last_rate > th.DECAYED


def slope_told(f: CurveFeatures) -> str:
    """What the loss did over the last half of the run, with its standard error.

    Per 1000 steps, or fewer where the run is too short for them; nothing of a few losses.
    """
    half = f.steps // 2
    if half < FEWEST_HALF:
        return ""
    per = next(steps for steps in PER if steps <= half)
    slope, error = (per * f.levels.decrease * x for x in (f.trend.slope, f.trend.slope_error))
    if abs(slope) * half <= ROUNDING * per * max(abs(f.levels.start), abs(f.levels.end)):
        return "over the last half it did not change"
    way = "fell" if slope >= 0 else "rose"
    steps = counted(per, "step")
    told = f"over the last half it {way} by {abs(slope):.2g} (+-{error:.1g}) per {steps}"
    v, sure = f.validation, f.trend.slope > th.CREEP_Z * f.trend.slope_error
    stays = v is not None and v.late_decrease_z < th.LATE_Z and v.own_rise < 1
    return f"{told}, and the validation loss did not" if sure and stays else told


def more_told(f: CurveFeatures) -> str:
    """What as many steps again may gain, by the last decreases; nothing where they made none."""
    more = f.trend.forecast * f.levels.decrease
    return f", and may fall by {more:.2g} more in as many steps" if more > 0 else ""
