"""A loss that falls along a line below 0: without a floor in view no rate is wrong, or right."""

from __future__ import annotations

import math

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.pace import slope_told
from stepsize.diagnosis.verdicts import Finding
from stepsize.diagnosis.wording import went

KIND = "no_floor"


def no_floor(f: CurveFeatures) -> Finding | None:
    """The finding where the loss has gone below 0 and falls on as fast as ever, else None.

    Weights that hardly moved have not come to where its floor would show.
    """
    levels, trend = f.levels, f.trend
    if f.broke_at is not None or f.steps < th.FEWEST_STEPS or not levels.end < min(levels.start, 0):
        return None
    if f.movement.relative_path < th.SHORT_PATH or f.movement.idle >= th.IDLE:
        return None
    kept = trend.slowing >= th.LINEAR and trend.late_decrease_z > th.LINEAR_Z
    if not kept or math.isnan(trend.slowing):
        return None
    what = f"the loss {went(levels.start, levels.end)}, and its last quarter fell by "
    what += f"{trend.slowing:.2g} times what its second did: {slope_told(f)}, along a line"
    advice = "Look whether it has a lower bound: a variance that can go to 0, or a term without a "
    advice += "minimum, has none, and then no rate is right. If it has one, what_if compares rates."
    return Finding(KIND, "warning", what, advice)
