"""A loss that falls along a line below 0.

It may have no floor, and then no rate is right; or the steps are far too short for it to show. The
curve of the one is that of the other, so both are said.
"""

from __future__ import annotations

from dataclasses import replace

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.pace import slope_told
from stepsize.diagnosis.verdicts import Diagnosis, Finding
from stepsize.diagnosis.wording import went

KIND = "no_floor"


def endless(f: CurveFeatures) -> bool:
    """Whether a loss ends so far below 0 that it has no floor, whatever its curve looks like."""
    return f.levels.end < -th.ENDLESS * max(1.0, abs(f.levels.start))


def no_floor(f: CurveFeatures) -> Finding | None:
    """The finding where the loss has gone below 0 and falls on as fast as ever, else None.

    Weights that hardly moved have not come to where its floor would show.
    """
    levels, trend = f.levels, f.trend
    if f.broke_at is not None or f.steps < th.FEWEST_STEPS or not levels.end < min(levels.start, 0):
        return None
    if f.movement.relative_path < th.SHORT_PATH or f.movement.idle >= th.IDLE:
        return None
    low, high = th.LINEAR
    if not (low < trend.slowing < high and trend.late_decrease_z > th.LINEAR_Z):
        return None
    what = f"the loss {went(levels.start, levels.end)}, and its last quarter fell by "
    what += f"{trend.slowing:.2g} times what its second did: {slope_told(f)}, along a line"
    advice = "Look whether it has a lower bound: a variance that can go to 0, or a term without a "
    advice += "minimum, has none, and then no rate is right."
    return Finding(KIND, "warning", what, advice)


def with_floor(f: CurveFeatures, found: Diagnosis) -> Diagnosis:
    """The diagnosis with that finding first, where the loss is said to fall."""
    first = found.findings[0].kind if found.findings else ""
    if not found.enough_data or first != found.verdict or first not in ("too_low", "healthy"):
        return found
    line = no_floor(f)
    return found if line is None else replace(found, findings=(line, *found.findings))
