"""Where a search looks next: Optuna's samplers, and a search of our own for rates."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.finder import LRFindResult
from stepsize.tuning import Choice, LogUniform, Point, Space, TrialRecord, Uniform

COARSE, FINE = math.log(10), math.log(10) / 3


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError('tune needs Optuna: pip install "stepsize[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


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
    # A rate too low costs little and a rate too high much, so the lower side is looked at first.
    if left is None and x - a > step / 4:
        return max(a, x - step)
    if right is None and b - x > step / 4:
        return min(b, x + step)
    return _inside(left or (x, y), (x, y), right or (x, y))


def _inside(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> float:
    """The lowest point of the parabola through three points, kept off those already known."""
    x = middle[0]
    down, up = x - left[0], right[0] - x
    if down > 0 and up > 0 and math.isfinite(left[1]) and math.isfinite(right[1]):
        fall, rise = (middle[1] - left[1]) / down, (right[1] - middle[1]) / up
        if rise > fall:
            x += (-(fall * up + rise * down) / (rise - fall)) / 2
    else:
        x += up / 2 if up > down else -down / 2
    # Closer than an eighth of its interval to a known point nothing would be learnt.
    if abs(x - middle[0]) < max(down, up) / 8:
        x = middle[0] + (up / 2 if up >= down else -down / 2)
    return min(max(x, left[0] + down / 8), right[0] - up / 8)


def _distribution(name: str, values: Uniform | LogUniform | Choice) -> Any:
    distributions = _optuna().distributions
    if isinstance(values, Choice):
        plain = (str, int, float, bool, type(None))
        options = values.options
        # Optuna stores plain values; others go by their number.
        kept = options if all(isinstance(o, plain) for o in options) else range(len(options))
        return distributions.CategoricalDistribution(tuple(kept))
    log = isinstance(values, LogUniform)
    return distributions.FloatDistribution(values.low, values.high, log=log)


def _grid(space: Space, trials: int, seed: int) -> list[Point]:
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


class Study:
    """An Optuna study that hands out points and is told records."""

    def __init__(
        self,
        space: Space,
        trials: int,
        method: str,
        prior: LRFindResult | float | None,
        storage: str | Path | None,
        seed: int,
    ) -> None:
        optuna = _optuna()
        self._space = space
        self._distributions = {name: _distribution(name, v) for name, v in space.items()}
        rates = [name for name, v in space.items() if isinstance(v, LogUniform)]
        start = prior.suggestion if isinstance(prior, LRFindResult) else prior
        if start is not None and not 0 < start < math.inf:
            raise ValueError(f"tune: prior must be a positive rate, got {start}")
        self._study = optuna.create_study(
            study_name="stepsize",
            storage=None if storage is None else f"sqlite:///{Path(storage).absolute()}",
            load_if_exists=True,
        )
        kept = self._study.get_trials(deepcopy=False)
        self._asked: dict[int, Any] = {}
        self.records = [_record(t, space) for t in kept if "record" in t.user_attrs]
        self._grid = _grid(space, trials, seed)[len(self.records) :] if method == "grid" else []
        self._rate = rates[0] if method == "lr" else None
        self._start = start
        # A search that goes on must not draw its first points again.
        seed += 7919 * len(kept)
        if method in ("tpe", "lr"):
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        else:
            self._study.sampler = optuna.samplers.RandomSampler(seed=seed)
        if start is not None and method == "tpe" and not kept:
            rate = self._distributions[rates[0]]
            self._study.enqueue_trial({rates[0]: min(max(start, rate.low), rate.high)})

    def ask(self) -> tuple[int, Point]:
        """The number and the point of the next run."""
        if self._grid:
            self._study.enqueue_trial(self._stored(self._grid.pop(0)))
        elif self._rate is not None:
            self._study.enqueue_trial({self._rate: self._next_rate(self._rate)})
        trial = self._study.ask(self._distributions)
        self._asked[trial.number] = trial
        return trial.number, self._point(trial.params)

    def _next_rate(self, name: str) -> float:
        """The rate to look at; runs under way count as lost, so that others look elsewhere."""
        tried = [(r.point[name], r.value) for r in self.records]
        tried += [(t.params[name], math.inf) for t in self._asked.values()]
        span = self._distributions[name]
        return next_rate(span.low, span.high, tried, self._start)

    def tell(self, number: int, record: TrialRecord) -> None:
        """Keep what came of a run."""
        trial = self._asked.pop(number)
        kept = {"state": record.state, "reports": record.reports, "seconds": record.seconds}
        trial.set_user_attr("record", json.dumps(kept))
        if record.state == "done":
            self._study.tell(trial, record.value)
        else:
            self._study.tell(trial, state=_optuna().trial.TrialState.PRUNED)
        self.records.append(record)

    def _stored(self, point: Mapping[str, Any]) -> Point:
        out = dict(point)
        for name, values in self._space.items():
            if isinstance(values, Choice) and self._by_number(name):
                out[name] = values.options.index(point[name])
        return out

    def _by_number(self, name: str) -> bool:
        choices = self._distributions[name].choices
        return tuple(choices) != tuple(self._space[name].options)  # type: ignore[union-attr]

    def _point(self, params: Mapping[str, Any]) -> Point:
        return _decode(params, self._space)


def _decode(params: Mapping[str, Any], space: Space) -> Point:
    point = {}
    for name, values in space.items():
        value = params[name]
        if isinstance(values, Choice):
            plain = _distribution(name, values).choices
            value = values.options[plain.index(value)]
        point[name] = value
    return point


def _record(trial: Any, space: Space) -> TrialRecord:
    missing = [name for name in space if name not in trial.params]
    if missing:
        raise ValueError(
            f"tune: storage holds a search without {missing[0]!r}; give another file for this space"
        )
    kept = json.loads(trial.user_attrs["record"])
    value = trial.value if kept["state"] == "done" else math.inf
    reports = tuple((int(s), float(v)) for s, v in kept["reports"])
    return TrialRecord(_decode(trial.params, space), value, kept["state"], reports, kept["seconds"])
