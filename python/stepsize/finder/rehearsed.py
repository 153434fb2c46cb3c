"""The schedule of a run of known length, for a function without noise: parts of it, from the start.

Without noise two runs can be compared step by step, and what a race of some thirty steps takes for
best is often far from what a run of a thousand wants. So constant rates run an eighth of the steps,
the two best go on to a quarter, and these to a half, where the one that leads is held against the
same rate under a schedule.

Source: successive halving, Jamieson & Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Nest, ValueAndGrad
from stepsize.finder.cached_batches import CachedBatches
from stepsize.finder.trials import Trial, TrialRunner
from stepsize.schedules import Schedule

MOST = 2  # calls of all rehearsals, in those of the run
PARTS = (8, 4, 2)  # of the steps, that the rates run before some are dropped
KEPT = 2  # rates that go on
STRIDE = 4  # half decades between the first rates, in steps of FINEST; then half of that
FINEST = 10 ** (1 / 8)
LAST = 10  # the part of a rehearsal whose mean is its end

Plan = Callable[[float, int], Schedule]


def _nothing() -> None:
    return None


class Rehearsals:
    """Runs at constant rates from one start, which can go on, within a number of calls.

    `done` says that no more are wanted, as where one of them has come to the end; `reached` is then
    the place of a constant rate that did.
    """

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        params: Nest,
        make: Callable[[Nest], Any],
        rate: float,
        steps: int,
        done: Callable[[], bool],
    ) -> None:
        self._runner = TrialRunner(value_and_grad, params, CachedBatches([None]), make, _nothing)
        self._first, self.steps, self._done = rate, steps, done
        self._calls = MOST * steps
        self._trials: dict[int, Trial] = {}
        self.reached: int | None = None

    def rate(self, place: int) -> float:
        """The rate of a place, in steps of FINEST from the first one."""
        return self._first * float(FINEST**place)

    def affords(self, length: int, count: int = 1) -> bool:
        """Whether so many runs can go on by this length."""
        return not self._done() and self._calls >= length * count

    def _run(self, trial: Trial, rates: Callable[[int], float], until: int) -> float:
        """Go on, and say how low it ends; infinite where it fails."""
        self._runner.grant(self._calls)
        while len(trial.losses) < until and not self._done():
            if not trial.step(rates(len(trial.losses))):
                break
        self._calls = self._runner.budget
        if trial.failure is not None or not trial.losses:
            return math.inf
        return float(np.mean(trial.losses[-max(1, until // LAST) :]))

    def end(self, place: int, part: int) -> float:
        """How low a constant rate ends after a part of the steps."""
        if place not in self._trials:
            self._trials[place] = self._runner.trial()
        found = self._run(self._trials[place], lambda _: self.rate(place), self.steps // part)
        if self._done() and self.reached is None:
            self.reached = place
        return found

    def planned(self, plan: Plan, place: int, part: int) -> float:
        """How low a plan over a part of the steps ends."""
        length = self.steps // part
        return self._run(self._runner.trial(), plan(self.rate(place), length), length)

    def climb(self, part: int) -> dict[int, float]:
        """Ends of rates half a decade apart around the best, and half way to its neighbours."""
        ends: dict[int, float] = {}
        at = best = 0
        while at not in ends and self.affords(self.steps // part):
            ends[at] = self.end(at, part)
            best = min(ends, key=lambda k: (ends[k], k))
            higher = best + STRIDE not in ends and math.isfinite(ends[best])
            at = best + STRIDE if higher else best - STRIDE
        for beside in (best - STRIDE // 2, best + STRIDE // 2):
            if self.affords(self.steps // part):
                ends[beside] = self.end(beside, part)
        return ends

    def leading(self) -> int:
        """The place of the rate that leads for longest."""
        ends = self.climb(PARTS[0]) or {0: math.inf}
        live = sorted(ends, key=lambda k: (ends[k], k))
        for before, part in itertools.pairwise(PARTS):
            live = [k for k in live if math.isfinite(ends[k])][:KEPT] or live[:1]
            if not self.affords(self.steps // part - self.steps // before, len(live)):
                break
            ends = {k: self.end(k, part) for k in live}
            live.sort(key=lambda k: (ends[k], k))
        return live[0] if self.reached is None else self.reached


def rehearsed(
    value_and_grad: ValueAndGrad,
    params: Nest,
    make: Callable[[Nest], Any],
    plans: Sequence[Plan],
    rate: float,
    steps: int,
    done: Callable[[], bool] = lambda: False,
) -> tuple[Plan, float]:
    """A plan and its rate for a run of so many steps, looked for from `rate` on.

    The first plan is a constant rate; another one is taken where it ends lower.
    """
    tried = Rehearsals(value_and_grad, params, make, rate, steps, done)
    place, part = tried.leading(), PARTS[-1]
    if tried.reached is not None:
        return plans[0], tried.rate(place)
    if not tried.affords(steps // part, len(plans) - 1):
        return plans[-1], tried.rate(place)
    ends = [tried.end(place, part), *(tried.planned(p, place, part) for p in plans[1:])]
    return plans[int(np.argmin(ends))], tried.rate(place)
