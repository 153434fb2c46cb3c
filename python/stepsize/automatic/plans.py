"""What the rate does over a run of known length, for a peak that is still to be found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stepsize.schedules import Schedule, warmup_cosine, warmup_linear, wsd
from stepsize.validation import choice

Plan = Callable[[float, int], Schedule]

WARMUP = 20  # the part of the run that is warm-up
COOLDOWN = 0.4  # share of the run that cools down


def _warmup(steps: int) -> int:
    return min(steps - 1, max(1, steps // WARMUP))


def cosine(peak: float, steps: int) -> Schedule:
    """Down to 0 along a cosine."""
    return warmup_cosine(peak, _warmup(steps), steps)


def linear(peak: float, steps: int) -> Schedule:
    """Down to 0 along a line."""
    return warmup_linear(peak, _warmup(steps), steps)


def cooldown(peak: float, steps: int) -> Schedule:
    """At the peak, then down to 0 as one minus the square root of the time."""
    warm, cool = _warmup(steps), max(1, round(COOLDOWN * steps))
    return wsd(peak, warm, max(0, steps - warm - cool), cool, shape="sqrt")


PLANS: dict[str, Plan] = {"cosine": cosine, "linear": linear, "cooldown": cooldown}


def plan_of(schedule: str | Schedule, steps: int) -> Plan:
    """The plan of a name, or of a schedule whose shape is wanted at another length and height."""
    if isinstance(schedule, str):
        return PLANS[choice("autolr: schedule", schedule, PLANS)]
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"autolr: schedule must be one of {', '.join(map(repr, PLANS))}, or a schedule whose "
            f"shape is wanted, such as ss.schedules.refined(history), got {schedule!r:.80}"
        )
    plan = _shaped(schedule)
    plan(1.0, steps)  # refuses what has no rate
    return plan


def first_peak(plan: Plan, peak: float, steps: int) -> float:
    """Where to look for the peak of a plan first, from that for a cosine.

    Best peaks of plans differ as their mean rates do, at most times: in bench/advice that of the
    cool-down is 0.13 decades lower, and its mean rate 0.17 higher. None is taken to stand more.
    """
    means = [p(1.0, steps).integral(steps) for p in (cosine, plan)]
    return peak * min(1.0, means[0] / means[1])


def _shaped(schedule: Schedule) -> Plan:
    if not 0 < schedule.length < math.inf:
        raise ValueError(
            f"autolr: schedule must have a length, to be stretched over the run, got {schedule!r}"
        )

    def plan(peak: float, steps: int) -> Schedule:
        made = schedule.stretch(steps)
        highest: Any = made.values(steps).max()
        if not highest > 0:
            raise ValueError(f"autolr: schedule has no rate above 0 in {steps} steps: {schedule!r}")
        return made * (peak / float(highest))

    return plan
