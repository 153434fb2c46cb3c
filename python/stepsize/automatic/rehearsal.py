"""Rehearsals: short versions of a training, for what a race of a few steps cannot tell.

Where noise decides, or where the loss falls slowly, thirty steps at a constant rate do not show at
which peak a schedule ends lowest. Running the whole schedule in half the steps does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepsize.arrays import Curve, Nest, ValueAndGrad
from stepsize.automatic.plans import first_peak
from stepsize.finder.cached_batches import CachedBatches
from stepsize.finder.trials import Trial, TrialRunner
from stepsize.rng import isolate_rng
from stepsize.schedules import Schedule
from stepsize.training.batches import Batches

Rehearsals = tuple[tuple[float, Curve], ...]

STRIDE = math.sqrt(10)
SHORTEST, LONGEST = 10, 1000  # steps of a rehearsal


def length_of(total: int) -> int:
    """Steps of each rehearsal for a training of `total`; 0 if that is too few to tell anything."""
    length = min(total // 2, LONGEST)
    return length if length >= SHORTEST else 0


def _end(trial: Trial) -> float:
    """The mean loss of the last tenth; infinite for a lost run."""
    if trial.failure is not None:
        return math.inf
    return float(np.mean(trial.losses[-max(3, len(trial.losses) // 10) :]))


def climb(run: Callable[[float], Trial], peak: float, most: int) -> tuple[float, Rehearsals]:
    """Go by half decades to where runs end lowest, in at most `most` of them.

    The peak returned is that of the lowest run, or where the parabola through it and its neighbours
    is lowest if neither is lost; one that ended above its start tells no more than that. All runs
    see the same batches, so that their ends can be compared.
    """
    ends: dict[int, float] = {}
    seen = []
    where = best = 0
    while len(ends) < most and where not in ends:
        rate = peak * STRIDE**where
        trial = run(rate)
        ends[where] = _end(trial)
        seen.append((rate, np.asarray(trial.losses)))
        best = min(ends, key=lambda k: (ends[k], k))
        higher = best + 1 not in ends and math.isfinite(ends[best])
        where = best + 1 if higher else best - 1
    shift = 0.0
    if all(math.isfinite(ends.get(best + k, math.inf)) for k in (-1, 1)):
        start = float(np.mean(seen[0][1][:3]))
        low, lowest, high = (min(ends[best + k], start) for k in (-1, 0, 1))
        bend = low - 2 * lowest + high
        shift = (low - high) / (2 * bend) if bend > 0 else 0.0
    return peak * STRIDE ** (best + shift), tuple(seen)


def rehearse(
    value_and_grad: ValueAndGrad,
    params: Nest,
    source: Batches,
    optimizer: Any,
    plan: Callable[[float, int], Schedule],
    peak: float,
    total: int,
    most: int,
    tick: Callable[[], object],
) -> tuple[float, Rehearsals]:
    """The peak with which half of the training under the same plan ends lowest, from copies.

    `peak` is that for a cosine, as `lr_find` gives it.
    """
    peak = first_peak(plan, peak, total)

    def stream() -> Iterator[Any]:
        return (batch for epoch in itertools.count() for batch, _ in source.epoch(epoch, 0))

    length = length_of(total)

    def run(rate: float) -> Trial:
        runner = TrialRunner(value_and_grad, params, CachedBatches(stream), optimizer, tick)
        runner.grant(length)
        trial, schedule = runner.trial(), plan(rate, length)
        for step in range(length):
            if not trial.step(schedule(step)):
                break
            runner.batches.forget(step)
        trial.retire()
        return trial

    if not length or not most:
        return peak, ()
    with isolate_rng(value_and_grad, source), np.errstate(all="ignore"):
        return climb(run, peak, most)
