"""Search hyperparameters by whole trainings: five methods behind one call."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.finder.results import LRFindResult
from stepsize.validation import whole

Point = dict[str, Any]


@dataclass(frozen=True)
class Uniform:
    """A number between `low` and `high`, all alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"Uniform: need low < high, both finite, got {self.low}, {self.high}")

    def grid(self, count: int) -> list[float]:
        """`count` values from end to end."""
        return [float(v) for v in np.linspace(self.low, self.high, count)]


@dataclass(frozen=True)
class LogUniform:
    """A positive number between `low` and `high`, all factors alike: for rates and decays."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(
                f"LogUniform: need 0 < low < high, both finite, got {self.low}, {self.high}"
            )

    def grid(self, count: int) -> list[float]:
        """`count` values from end to end, at equal factors."""
        return [float(v) for v in np.geomspace(self.low, self.high, count)]


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values: `Choice("sgd", "adam")`."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        if len(options) == 1 and isinstance(options[0], list | tuple):
            options = tuple(options[0])
        if not options:
            raise ValueError("Choice: give at least one option")
        object.__setattr__(self, "options", options)

    def grid(self, count: int) -> list[Any]:
        """Every option."""
        return list(self.options)


Space = Mapping[str, Uniform | LogUniform | Choice]


class Stopped(Exception):
    """Raised by `Trial.report` to leave a run that is not worth its time; `tune` catches it."""


class Trial:
    """What an objective with two arguments is given, to tell how its run goes."""

    def __init__(self, limits: Mapping[int, float]) -> None:
        self._limits = dict(limits)
        self.reports: list[tuple[int, float]] = []

    def report(self, step: int, value: float) -> None:
        """Tell a value of this step, lower being better; leaves the run where others did better.

        Raises Stopped, which is for `tune` to catch, also when the value is not finite.
        """
        value = float(value)
        self.reports.append((int(step), value))
        if not value <= self._limits.get(int(step), math.inf) or not math.isfinite(value):
            raise Stopped


@dataclass(frozen=True)
class TrialRecord:
    """One run: its point, its value (infinite unless it is "done"), and its reports.

    `state` is "done", "stopped" (others did better) or "diverged".
    """

    point: Point
    value: float
    state: str
    reports: tuple[tuple[int, float], ...]
    seconds: float


@dataclass(frozen=True)
class TuneResult:
    """All runs of a search; print it to read it."""

    trials: tuple[TrialRecord, ...]

    @property
    def _ranked(self) -> list[TrialRecord]:
        return sorted(self.trials, key=lambda t: t.value)

    @property
    def best(self) -> Point:
        """The point with the lowest value."""
        return dict(self._ranked[0].point)

    @property
    def best_value(self) -> float:
        """The lowest value; infinite when every run diverged."""
        return self._ranked[0].value

    @property
    def interval(self) -> tuple[float, float]:
        """Where a single number does as well as the best, on the line through the runs.

        As well: within a twentieth of the way from the best value to the upper quartile. NaN where
        more than one number was searched.
        """
        (name, first), *others = self.trials[0].point.items()
        ended = [t for t in self.trials if t.state == "done"]
        if others or not ended or not isinstance(first, float):
            return math.nan, math.nan
        values = [t.value for t in ended]
        limit = self.best_value + (float(np.quantile(values, 0.75)) - self.best_value) / 20
        known = sorted((float(t.point[name]), t.value) for t in ended)
        best = next(k for k, (_, v) in enumerate(known) if v == self.best_value)
        return _crossing(known[best::-1], limit), _crossing(known[best:], limit)

    def table(self) -> str:
        """The runs as text, best first."""
        names = list(self.trials[0].point)
        rows = [[*names, "value", "state", "seconds"]]
        rows += [
            [*(_short(t.point[n]) for n in names), _short(t.value), t.state, f"{t.seconds:.2f}"]
            for t in self._ranked
        ]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw value over rate, or over run where there is no rate; returns matplotlib axes."""
        from stepsize.plots import tuning

        return tuning(self, ax)

    def __str__(self) -> str:
        counts = {
            s: sum(t.state == s for t in self.trials) for s in ("done", "stopped", "diverged")
        }
        told = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        best = ", ".join(f"{k}={_short(v)}" for k, v in self.best.items())
        low, high = self.interval
        span = f" (as good from {_short(low)} to {_short(high)})" if low < high else ""
        return f"{self.table()}\n{len(self.trials)} runs: {told}\nbest: {best}{span}"


def _crossing(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Where a line through points, of positive places in the logarithm, first rises to a limit."""
    log = points[0][0] > 0 and points[-1][0] > 0
    for (x, low), (z, high) in itertools.pairwise(points):
        if high > limit:
            share = (limit - low) / (high - low)
            return (
                math.exp((1 - share) * math.log(x) + share * math.log(z))
                if log
                else ((1 - share) * x + share * z)
            )
    return points[-1][0]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _run(objective: Callable[..., float], point: Point, limits: dict[int, float]) -> TrialRecord:
    """One run; at the top of the module so that any executor can send it."""
    trial, began = Trial(limits), time.perf_counter()
    state, value = "done", math.inf
    try:
        told = objective(point, trial) if _takes_trial(objective) else objective(point)
        value = _number(told)
    except Stopped:
        state = "stopped"
    except FloatingPointError:
        state = "diverged"
    if not math.isfinite(value):
        lost = bool(trial.reports) and not math.isfinite(trial.reports[-1][1])
        state, value = ("diverged" if state == "done" or lost else state), math.inf
    return TrialRecord(point, value, state, tuple(trial.reports), time.perf_counter() - began)


def _number(told: Any) -> float:
    try:
        return float(told)
    except (TypeError, ValueError):
        raise TypeError(f"tune: objective must return one number, it returned {told!r}") from None


def _takes_trial(objective: Callable[..., float]) -> bool:
    """Whether the objective has a second argument that must be given, or one called `trial`."""
    try:
        parameters = list(inspect.signature(objective).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name == "trial"
    )


def _limits(records: Sequence[TrialRecord], eager: bool) -> dict[int, float]:
    """For each step that enough runs reported: the value a new run must not exceed.

    The median of the others, as in Golovin et al. 2017 (Vizier), section 3.1.2; when eager, the
    best third of them, but only at the first, third, ninth, ... report, as in Li et al. 2020
    (ASHA), arXiv:1810.05934, Algorithm 2.
    """
    seen: dict[int, list[float]] = {}
    for record in records:
        rung = 1
        for k, (step, value) in enumerate(record.reports, start=1):
            if not eager or k == rung:
                rung *= 3
                seen.setdefault(step, []).append(value if math.isfinite(value) else math.inf)
    share, fewest = (1 / 3, 3) if eager else (1 / 2, 4)
    return {
        step: float(np.quantile(values, share, method="higher"))
        for step, values in seen.items()
        if len(values) >= fewest
    }


def _check(space: Space, trials: int, method: str, seed: int, executor: Executor | None) -> None:
    if not isinstance(space, Mapping):
        raise TypeError(
            f'tune: space must be a dict of names, {{"lr": ss.LogUniform(1e-5, 1)}}, got {space!r}'
        )
    if not space:
        raise ValueError('tune: space is empty; name something, {"lr": ss.LogUniform(1e-5, 1)}')
    for name, values in space.items():
        if not isinstance(values, Uniform | LogUniform | Choice):
            raise TypeError(
                f"tune: space[{name!r}] must be Uniform, LogUniform or Choice, "
                f"got {type(values).__name__}; write ss.LogUniform(low, high) for a range of rates"
            )
    whole("tune: trials", trials)
    whole("tune: seed", seed, 0)
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(
            f"tune: executor must be a concurrent.futures.Executor or None, got {executor!r}"
        )
    methods = ("tpe", "random", "grid", "halving", "lr")
    if method not in methods:
        raise ValueError(f"tune: method must be one of {', '.join(methods)}, got {method!r}")
    if method == "lr" and not any(isinstance(v, LogUniform) for v in space.values()):
        raise ValueError("tune: method 'lr' needs a LogUniform in the space; use 'tpe'")


def tune(
    objective: Callable[..., float],
    space: Space,
    *,
    trials: int,
    method: str = "tpe",
    prior: LRFindResult | float | None = None,
    executor: Executor | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
) -> TuneResult:
    """Find the point of `space` at which `objective(point)` is lowest, in `trials` runs.

    An objective that takes a second argument gets a `Trial`; telling it how the run goes,
    `trial.report(step, value)`, lets bad runs stop early. A value that is not finite, or a
    FloatingPointError, is a run that diverged; any other exception ends the search.

    Methods: "tpe" models good and bad points (Bergstra et al. 2011), "random", "grid" takes equal
    steps in every direction, "halving" keeps the best third of random runs at each rung (Li et al.
    2020, arXiv:1810.05934), "lr" brackets the first LogUniform of the space, its rate, and closes
    in by parabolas in the logarithm; it starts at `prior`, a rate or what `lr_find` returned. Only
    "tpe" needs Optuna, the extra "tune".

    `executor` runs trials elsewhere: any concurrent.futures.Executor. `storage` is the path of a
    file that keeps the runs; a search called again with it goes on where it was. The same `seed`
    gives the same runs, one after another without an executor.

    >>> import stepsize as ss
    >>> result = ss.tune(lambda p: (p["lr"] - 0.1) ** 2, {"lr": ss.LogUniform(1e-3, 1)},
    ...                  trials=10, method="lr")
    >>> 0.05 < result.best["lr"] < 0.2
    True
    """
    _check(space, trials, method, seed, executor)
    from stepsize.tuning.samplers import Study

    study = Study(space, trials, method, prior, storage, seed)
    running: dict[Future[TrialRecord], int] = {}
    width = 1 if executor is None else getattr(executor, "_max_workers", os.cpu_count() or 1)
    try:
        while len(study.records) < trials:
            while len(running) < width and len(study.records) + len(running) < trials:
                number, point = study.ask()
                limits = _limits(study.records, eager=method in ("halving", "lr"))
                if executor is None:
                    study.tell(number, _run(objective, point, limits))
                else:
                    running[executor.submit(_run, objective, point, limits)] = number
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    study.tell(running.pop(future), future.result())
    finally:
        for future in running:
            future.cancel()
    return TuneResult(tuple(study.records[:trials]))
