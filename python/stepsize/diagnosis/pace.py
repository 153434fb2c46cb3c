"""How fast a loss still falls, and what that leaves: the words and the line to a run at rest."""

from __future__ import annotations

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures

PER = 1000  # steps that a slope is told for


def creeps(f: CurveFeatures) -> bool:
    """Whether a loss at rest by its last half still falls, by more than its noise and than nothing.

    As many steps again would then gain more than the definition of a converged run allows. Under a
    rate that has come down to its end the last decreases are those of the decay.
    """
    trend = f.trend
    sure = trend.late_decrease_z > th.CREEP_Z and trend.slope > th.CREEP_Z * trend.slope_error
    return sure and trend.forecast > th.CREEP and f.movement.last_rate > th.DECAYED


def slope_told(f: CurveFeatures) -> str:
    """What the loss did over the last half of the run, for 1000 steps, with its standard error."""
    slope, error = (PER * f.levels.decrease * x for x in (f.trend.slope, f.trend.slope_error))
    way = "fell" if slope >= 0 else "rose"
    told = f"over the last half it {way} by {abs(slope):.2g} (+-{error:.1g}) per {PER} steps"
    v, sure = f.validation, f.trend.slope > th.CREEP_Z * f.trend.slope_error
    stays = v is not None and v.late_decrease_z < th.LATE_Z and v.own_rise < 1
    return f"{told}, and the validation loss did not" if sure and stays else told


def more_told(f: CurveFeatures) -> str:
    """What as many steps again may gain, by the last decreases; nothing where they made none."""
    more = f.trend.forecast * f.levels.decrease
    return f", and may fall by {more:.2g} more in as many steps" if more > 0 else ""
