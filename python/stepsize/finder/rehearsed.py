"""The rate of a run of known length, for a function without noise: short runs of its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.arrays import Nest, ValueAndGrad
from stepsize.finder.cached_batches import CachedBatches
from stepsize.finder.trials import TrialRunner
from stepsize.schedules import Schedule

REHEARSALS = 8  # at most, each of this part of the steps
STRIDE = math.sqrt(10)  # ratio of the rates of neighbouring rehearsals
LAST = 10  # the part of a rehearsal whose mean is its end


def rehearsed_rate(
    value_and_grad: ValueAndGrad,
    params: Nest,
    make: Callable[[Nest], Any],
    plan: Callable[[float, int], Schedule],
    rate: float,
    steps: int,
) -> float:
    """The rate with which a short run of the plan ends lowest, from `rate` on by half decades.

    Without noise the ends of two runs can be compared, and what a race of some thirty steps takes
    for best is often far below what a run of `steps` steps wants.
    """
    length = steps // REHEARSALS
    ends: dict[int, float] = {}
    best = at = 0
    while len(ends) < REHEARSALS and at not in ends:
        runner = TrialRunner(value_and_grad, params, CachedBatches([None]), make, lambda: None)
        runner.grant(length)
        trial, schedule = runner.trial(), plan(rate * STRIDE**at, length)
        while len(trial.losses) < length and trial.step(schedule(len(trial.losses))):
            pass
        late = trial.losses[-max(1, length // LAST) :]
        ends[at] = math.inf if trial.failure is not None else float(np.mean(late))
        best = min(ends, key=lambda k: (ends[k], k))
        higher = best + 1 not in ends and math.isfinite(ends[best])
        at = best + 1 if higher else best - 1
    return rate * STRIDE**best
