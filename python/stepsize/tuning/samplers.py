"""Where a search looks next, and the file that keeps its runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.finder.results import LRFindResult
from stepsize.tuning.search import Choice, LogUniform, Point, Space, TrialRecord, Uniform

COARSE, FINE = math.log(10), math.log(10) / 3


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


def _draw(space: Space, rng: np.random.Generator) -> Point:
    """A random point."""
    point: Point = {}
    for name, values in space.items():
        if isinstance(values, Choice):
            point[name] = values.options[int(rng.integers(len(values.options)))]
        elif isinstance(values, LogUniform):
            drawn = math.exp(rng.uniform(math.log(values.low), math.log(values.high)))
            point[name] = min(max(drawn, values.low), values.high)
        else:
            point[name] = float(rng.uniform(values.low, values.high))
    return point


class _Model:
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
        self._spans = {name: self._span(values) for name, values in space.items()}
        self._asked: dict[int, Any] = {}
        for record in records:
            self._study.add_trial(self._finished(record))

    def _span(self, values: Uniform | LogUniform | Choice) -> Any:
        spans = self._optuna.distributions
        if isinstance(values, Choice):
            return spans.CategoricalDistribution(tuple(range(len(values.options))))
        log = isinstance(values, LogUniform)
        return spans.FloatDistribution(values.low, values.high, log=log)

    def _finished(self, record: TrialRecord) -> Any:
        done = record.state == "done"
        state = self._optuna.trial.TrialState
        return self._optuna.trial.create_trial(
            params=_coded(record.point, self._space),
            distributions=self._spans,
            value=record.value if done else None,
            state=state.COMPLETE if done else state.PRUNED,
        )

    def ask(self, number: int, first: Mapping[str, float]) -> Point:
        if first:
            self._study.enqueue_trial(dict(first))
        self._asked[number] = trial = self._study.ask(self._spans)
        return _decoded(trial.params, self._space)

    def tell(self, number: int, record: TrialRecord) -> None:
        trial = self._asked.pop(number)
        if record.state == "done":
            self._study.tell(trial, record.value)
        else:
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)


class Study:
    """Hands out points, is told records, and keeps them in a file."""

    def __init__(
        self,
        space: Space,
        trials: int,
        method: str,
        prior: LRFindResult | float | None,
        storage: str | Path | None,
        seed: int,
    ) -> None:
        start = prior.suggestion if isinstance(prior, LRFindResult) else prior
        if start is not None and not 0 < start < math.inf:
            raise ValueError(f"tune: prior must be a positive rate, got {start}")
        self._space, self._method, self._seed, self._start = space, method, seed, start
        self._file = None if storage is None else Path(storage)
        if self._file is not None:
            self._file.touch()  # what cannot be written is said before anything has run
        self.records = _read(self._file, space)
        self._next = len(self.records)
        self._running: dict[int, Point] = {}
        self._rate = next((n for n, v in space.items() if isinstance(v, LogUniform)), "")
        known = [r.point for r in self.records]
        grid = _grid(space, trials, seed) if method == "grid" else []
        self._grid = [point for point in grid if point not in known]
        # A search that goes on must not draw its first points again.
        again = seed + 7919 * self._next
        self._model = _Model(space, self.records, again) if method == "tpe" else None

    def ask(self) -> tuple[int, Point]:
        """The number and the point of the next run."""
        number, self._next = self._next, self._next + 1
        if self._grid:
            point = self._grid.pop(0)
        elif self._model is not None:
            point = self._model.ask(number, self._first(number))
        else:
            point = _draw(self._space, np.random.default_rng((self._seed, number)))
            if self._method == "lr":
                point = self._closer(number, point)
        self._running[number] = point
        return number, point

    def _first(self, number: int) -> dict[str, float]:
        if number or self._start is None or not self._rate:
            return {}
        span: Any = self._space[self._rate]
        return {self._rate: min(max(self._start, span.low), span.high)}

    def _closer(self, number: int, point: Point) -> Point:
        """The next rate; every second run keeps the rest of the best point so far."""
        done = [r for r in self.records if r.state == "done"]
        if number % 2 and done:
            point = dict(min(done, key=lambda r: r.value).point)
        # Runs under way count as lost, so that others look elsewhere.
        tried = [(r.point[self._rate], r.value) for r in self.records]
        tried += [(p[self._rate], math.inf) for p in self._running.values()]
        span: Any = self._space[self._rate]
        return {**point, self._rate: next_rate(span.low, span.high, tried, self._start)}

    def tell(self, number: int, record: TrialRecord) -> None:
        """Keep what came of a run."""
        del self._running[number]
        if self._model is not None:
            self._model.tell(number, record)
        if self._file is not None:
            _append(self._file, record, self._space)
        self.records.append(record)


def _coded(point: Point, space: Space) -> dict[str, Any]:
    """A point in plain values: choices go by their number."""
    return {
        name: values.options.index(point[name]) if isinstance(values, Choice) else point[name]
        for name, values in space.items()
    }


def _decoded(plain: Mapping[str, Any], space: Space) -> Point:
    return {
        name: values.options[plain[name]] if isinstance(values, Choice) else plain[name]
        for name, values in space.items()
    }


def _ends(values: Uniform | LogUniform | Choice) -> tuple[float, float]:
    """The least and the largest number that stands for a value."""
    return (0, len(values.options) - 1) if isinstance(values, Choice) else (values.low, values.high)


def _append(file: Path, record: TrialRecord, space: Space) -> None:
    kept = {**vars(record), "point": _coded(record.point, space)}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(kept) + "\n")


def _read(file: Path | None, space: Space) -> list[TrialRecord]:
    """The runs of a file, one to a line; a last line that was cut short is taken off."""
    if file is None or not file.exists():
        return []
    whole, _, rest = file.read_bytes().rpartition(b"\n")
    if rest:
        file.write_bytes(whole + b"\n" if whole else b"")
    return [_record(line, file, space) for line in whole.splitlines()]


def _record(line: bytes, file: Path, space: Space) -> TrialRecord:
    try:
        kept = json.loads(line)
        plain, reports = kept["point"], tuple((int(s), float(v)) for s, v in kept["reports"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"tune: {file} does not hold a search; give another file") from error
    if set(plain) != set(space):
        raise ValueError(
            f"tune: {file} holds a search of {', '.join(plain)}, not of {', '.join(space)}; give "
            "another file for this space"
        )
    for name, values in space.items():
        low, high = _ends(values)
        if not low - abs(low) * 1e-9 <= plain[name] <= high + abs(high) * 1e-9:
            raise ValueError(
                f"tune: {file} holds a search with {name}={plain[name]!r}, which is not in "
                f"{values}; give another file for this space"
            )
    point = _decoded(plain, space)
    return TrialRecord(point, kept["value"], kept["state"], reports, kept["seconds"])
