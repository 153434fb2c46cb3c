"""Where a search looks next: grid, random, TPE, and a bracketing search of the rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.tuning.optuna_studies import distribution
from stepsize.tuning.space import Choice, Point, Space, coded, decoded
from stepsize.tuning.trials import LOST, TrialRecord

COARSE, FINE = math.log(10), math.log(10) / 3  # steps of the rate search, without and with a prior


def next_rate(
    low: float, high: float, tried: Sequence[tuple[float, float]], start: float | None
) -> float:
    """The next rate of a search that brackets the lowest value and closes in on it.

    `tried` holds pairs of rate and value, infinite for a lost run. Works in the logarithm of the
    rate. Without `start` it first takes five rates from end to end.
    """
    return min(max(math.exp(_next_log(math.log(low), math.log(high), tried, start)), low), high)


def _next_log(
    a: float, b: float, tried: Sequence[tuple[float, float]], start: float | None
) -> float:
    known = sorted((math.log(rate), value) for rate, value in tried)
    if start is None and len(known) < 5:
        return float(np.linspace(a, b, 7)[1:6][(2, 1, 3, 0, 4)[len(known)]])
    if not known:
        return math.log(start or 1.0)
    step = min((FINE if start is not None else COARSE), (b - a) / 4)
    best = min(range(len(known)), key=lambda k: known[k][1])
    x, y = known[best]
    if not math.isfinite(y):
        return max(a, known[0][0] - 3 * step)
    left = known[best - 1] if best else None
    right = known[best + 1] if best + 1 < len(known) else None
    # A rate too low costs less than one too high, so the lower side comes first.
    if left is None and x - a > step / 4:
        return max(a, x - step)
    if right is None and b - x > step / 4:
        return min(b, x + step)
    return _inside(left or (x, y), (x, y), right or (x, y))


def _inside(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> float:
    """The minimum of the parabola through three points, kept away from those already known."""
    x = middle[0]
    down, up = x - left[0], right[0] - x
    if down > 0 and up > 0 and math.isfinite(left[1]) and math.isfinite(right[1]):
        fall, rise = (middle[1] - left[1]) / down, (right[1] - middle[1]) / up
        if rise > fall:
            x += (-(fall * up + rise * down) / (rise - fall)) / 2
    else:
        x += up / 2 if up > down else -down / 2
    # Closer than an eighth of its interval to a known point a run would tell nothing new.
    if abs(x - middle[0]) < max(down, up) / 8:
        x = middle[0] + (up / 2 if up >= down else -down / 2)
    return min(max(x, left[0] + down / 8), right[0] - up / 8)


def grid(space: Space, trials: int, seed: int) -> list[Point]:
    """As many equal steps in each direction as the trials allow, in random order."""
    fixed = math.prod(len(v.options) for v in space.values() if isinstance(v, Choice))
    free = sum(not isinstance(v, Choice) for v in space.values())
    if fixed > trials:
        raise ValueError(f"tune: the grid has {fixed} choices, more than trials={trials}")
    count = max(1, math.floor((trials / fixed) ** (1 / free) + 1e-9)) if free else 0
    points = [
        dict(zip(space, values, strict=True))
        for values in itertools.product(*(v.grid(count) for v in space.values()))
    ]
    return [points[k] for k in np.random.default_rng(seed).permutation(len(points))]


def draw(space: Space, rng: np.random.Generator) -> Point:
    """A random point."""
    return {name: values.draw(rng) for name, values in space.items()}


class TPE:
    """Optuna's tree-structured Parzen estimator."""

    def __init__(self, space: Space, records: Sequence[TrialRecord], seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ImportError(
                "tune: method 'tpe' needs Optuna: pip install \"stepsize[tune]\"; "
                "'lr', 'random', 'grid' and 'halving' do without"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._space = optuna, space
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        self._study = optuna.create_study(sampler=sampler)
        self._spans = {name: distribution(values) for name, values in space.items()}
        self._asked: dict[int, Any] = {}
        for record in records:
            self._study.add_trial(self._finished(record))

    def _finished(self, record: TrialRecord) -> Any:
        done = record.state == "done"
        return self._optuna.trial.create_trial(
            params=coded(record.point, self._space),
            distributions=self._spans,
            value=record.value if done else None,
            state=self._state(record),
        )

    def _state(self, record: TrialRecord) -> Any:
        states = self._optuna.trial.TrialState
        if record.state in LOST:
            return states.FAIL  # which says nothing about the point
        return states.COMPLETE if record.state == "done" else states.PRUNED

    def ask(self, number: int, first: Mapping[str, float]) -> Point:
        if first:
            self._study.enqueue_trial(dict(first))
        self._asked[number] = trial = self._study.ask(self._spans)
        return decoded(trial.params, self._space)

    def tell(self, number: int, record: TrialRecord) -> None:
        trial = self._asked.pop(number, None)
        if trial is None:  # a run made again, at its point
            self._study.add_trial(self._finished(record))
        elif record.state == "done":
            self._study.tell(trial, record.value)
        else:
            self._study.tell(trial, state=self._state(record))
