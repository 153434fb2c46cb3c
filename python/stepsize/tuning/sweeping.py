"""Run a function at every point of a grid, here or on any executor."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stepsize.names import closed, refuse_unknown
from stepsize.tuning.gathering import Plan, gather
from stepsize.tuning.identity import identity
from stepsize.tuning.optuna_studies import store_of
from stepsize.tuning.origin import Origin, told_of
from stepsize.tuning.pruning import Never
from stepsize.tuning.results import TuneResult
from stepsize.tuning.space import Choice, Listed, Point
from stepsize.tuning.study import Study
from stepsize.validation import choice, truth

MOST = 1_000_000  # points: their records alone take some 500 MB

Grid = Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]]


@closed
def sweep(
    fn: Callable[..., Any],
    grid: Grid,
    executor: Any = None,
    *,
    storage: str | Path | Any | None = None,
    retry_failed: bool = False,
    direction: str = "minimize",
    on_error: str = "record",
    retries: int = 2,
    threads: int | None = None,
    progress: bool | None = None,
    **unknown: NoReturn,
) -> TuneResult:
    """Call `fn(point)` at every point of `grid` and gather what came of each.

    A grid holds values by name, ``{"lr": [0.01, 0.1], "batch": [32, 64]}``, whose every combination
    is a point, the last name changing first; or it is a list of points, which are dicts with the
    same names. `fn` returns a number, or a number and a `History`; it may take a `Trial` as well,
    see `tune`, which stops no run because of others here. The records are in the order of the grid
    whatever the executor, and what depends on the point alone has the same bits everywhere.

    A run that diverged, failed or was killed is a record with its reason; ``on_error="raise"`` ends
    the sweep where one fails. `executor`, `storage`, `retry_failed`, `retries`, `threads` and
    `progress` are those of `tune`: a sweep that was interrupted goes on where it was, and repeats
    no run. The grid may have grown in between; runs at other points of it are left where they are.

    >>> import stepsize as ss
    >>> result = ss.sweep(lambda p: (p["lr"] - 0.1) ** 2, {"lr": [0.01, 0.1, 1.0]})
    >>> result.best, len(result.trials)
    ({'lr': 0.1}, 3)
    """
    refuse_unknown(sweep, unknown)
    points = _points(grid)
    space = {name: _listed([point[name] for point in points]) for name in points[0]}
    sign = (
        -1 if choice("sweep: direction", direction, ("minimize", "maximize")) == "maximize" else 1
    )
    count = len(points)
    plan = Plan("sweep", fn, count, sign, executor, on_error, retries, threads, progress)
    truth("sweep: retry_failed", retry_failed)
    plan.check(points)
    origin = Origin("sweep", direction, "sweep", None, **told_of(fn))
    with plan.delivers(), contextlib.closing(store_of(storage, space, origin)) as store:
        study = Study(space, count, "grid", None, store, 0, sign, points, retry=retry_failed)
        stopped = gather(plan, study, Never())
    return TuneResult(study.first(count), direction, space, stopped)


def _points(grid: Any) -> list[Point]:
    if isinstance(grid, Mapping):
        values = {name: _values(name, given) for name, given in grid.items()}
        if not values:
            raise ValueError('sweep: grid is empty; name something, {"lr": [0.01, 0.1]}')
        _check_count(math.prod(map(len, values.values())))
        return [dict(zip(values, p, strict=True)) for p in itertools.product(*values.values())]
    if not isinstance(grid, Iterable) or isinstance(grid, str | bytes | np.ndarray):
        raise TypeError(
            'sweep: grid must be a dict of values by name, {"lr": [0.01, 0.1]}, or a list of '
            f"points, got {grid!r:.80}"
        )
    grid, points = list(itertools.islice(grid, MOST + 1)), []
    _check_count(len(grid))
    for k, point in enumerate(grid):
        if not isinstance(point, Mapping) or not point:
            raise TypeError(f"sweep: grid[{k}] must be a point, a dict of names, got {point!r:.80}")
        if set(point) != set(grid[0]):
            raise ValueError(
                f"sweep: grid[{k}] has {', '.join(point)}, but grid[0] has {', '.join(grid[0])}; "
                "give each point the same names"
            )
        points.append({name: _plain(point[name]) for name in grid[0]})
    if not points:
        raise ValueError("sweep: grid holds no point")
    return points


def _values(name: str, given: Any) -> list[Any]:
    given = given.options if isinstance(given, Choice) else given
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(
            f"sweep: grid[{name!r}] must be a list of values, got {given!r:.80}; a range is for "
            'tune(method="grid")'
        )
    values = [_plain(value) for value in itertools.islice(given, MOST + 1)]
    if not values:
        raise ValueError(f"sweep: grid[{name!r}] holds no value")
    _check_count(len(values), f"[{name!r}]")
    return values


def _check_count(count: int, where: str = "") -> None:
    """Refuse what no sweep comes to the end of, such as a generator that never ends."""
    if count > MOST:
        raise ValueError(
            f"sweep: grid{where} has more than {MOST:,} points; make several sweeps, or draw some "
            'points by tune(method="random")'
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _listed(values: list[Any]) -> Listed:
    return Listed(list({identity(value): value for value in values}.values()))
