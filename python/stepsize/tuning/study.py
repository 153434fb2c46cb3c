"""A study: the points of a search, their records, and the file that keeps them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.finder.results import LRFindResult
from stepsize.tuning.joint import middle, next_point
from stepsize.tuning.samplers import TPE, draw, grid, next_rate
from stepsize.tuning.space import LogUniform, Point, Space
from stepsize.tuning.storage import append, read
from stepsize.tuning.trials import TrialRecord
from stepsize.validation import file_path, real

FIRST = 5  # rates from end to end before other values, where no rate is known
RESEED = 7919  # a prime, so that a resumed search draws from other seeds than its first part


class Study:
    """Asked for points and told records (ask-and-tell), which it keeps in a file."""

    def __init__(
        self,
        space: Space,
        trials: int,
        method: str,
        prior: LRFindResult | float | None,
        storage: str | Path | None,
        seed: int,
        sign: int = 1,
    ) -> None:
        start = prior.suggestion if isinstance(prior, LRFindResult) else prior
        if start is not None:
            start = real("tune: prior", start, "a positive rate or what lr_find returned")
            if not 0 < start < math.inf:
                raise ValueError(f"tune: prior must be a positive rate, got {start}")
        self._sign = sign
        self._space, self._method, self._seed, self._start = space, method, seed, start
        self._file = None if storage is None else Path(file_path("tune: storage", storage))
        if self._file is not None:
            self._file.touch()  # a path that cannot be written fails before anything has run
        self.records = [record.times(sign) for record in read(self._file, space)]
        self._next = len(self.records)
        self._running: dict[int, Point] = {}
        self._rate = next(
            (n for n, v in space.items() if isinstance(v, LogUniform) and not v.whole), ""
        )
        known = [r.point for r in self.records]
        points = grid(space, trials, seed) if method == "grid" else []
        self._grid = [point for point in points if point not in known]
        self._only_grid = method == "grid"
        # A resumed search must not draw its first points again.
        again = seed + RESEED * self._next
        self._model = TPE(space, self.records, again) if method == "tpe" else None

    def wants(self, trials: int) -> bool:
        """Whether one more run belongs to so many; a grid ends with its last point."""
        return len(self.records) < trials and bool(self._grid or not self._only_grid)

    def ask(self) -> tuple[int, Point]:
        """The number and the point of the next run."""
        number, self._next = self._next, self._next + 1
        if self._grid:
            point = self._grid.pop(0)
        elif self._model is not None:
            point = self._model.ask(number, self._first(number))
        else:
            point = draw(self._space, np.random.default_rng((self._seed, number)))
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
        """The next rate, and the other values with it once there are rates to start from."""
        # Runs under way count as lost, so that others look elsewhere.
        known = [(r.point, r.value) for r in self.records]
        known += [(p, math.inf) for p in self._running.values()]
        span: Any = self._space[self._rate]
        if len(self._space) > 1:
            ended = [(value, at[self._rate]) for at, value in known if math.isfinite(value)]
            if self._start is None and (len(known) < FIRST or not ended):
                point = middle(self._space)
            else:
                start = min(ended)[1] if self._start is None else self._start
                start = min(max(start, span.low), span.high)
                rng = np.random.default_rng((self._seed, number))
                return next_point(self._space, self._rate, known, start, rng)
        tried = [(at[self._rate], value) for at, value in known]
        return {**point, self._rate: next_rate(span.low, span.high, tried, self._start)}

    def tell(self, number: int, record: TrialRecord) -> None:
        """Keep the record of a run."""
        del self._running[number]
        if self._model is not None:
            self._model.tell(number, record)
        if self._file is not None:
            append(self._file, record.times(self._sign), self._space)
        self.records.append(record)
