"""A study: the points of a search, their records, and the storage that keeps them."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stepsize.finder.results import LRFindResult
from stepsize.tuning.identity import identity
from stepsize.tuning.joint import middle, next_point
from stepsize.tuning.pruning import Pruning
from stepsize.tuning.samplers import TPE, draw, grid, next_rate
from stepsize.tuning.space import Choice, LogUniform, Point, Space
from stepsize.tuning.storage import Store
from stepsize.tuning.trials import LOST, Order, TrialRecord
from stepsize.validation import real

FIRST = 5  # rates from end to end before other values, where no rate is known
RESEED = 7919  # a prime, so that a resumed search draws from other seeds than its first part


class Study:
    """Asked for points and told records (ask-and-tell), which it keeps in a store.

    Runs are numbered from 0; a number that was asked for and never told, as in a search that was
    interrupted, is asked for again when the search is resumed. `points` are those of a sweep,
    which takes the records of these alone. With `retry`, runs that failed or were killed are asked
    for again at their points, before any other.
    """

    def __init__(
        self,
        space: Space,
        trials: int,
        method: str,
        prior: LRFindResult | float | None,
        store: Store,
        seed: int,
        sign: int = 1,
        points: Sequence[Point] | None = None,
        *,
        retry: bool = False,
    ) -> None:
        start = prior.suggestion if isinstance(prior, LRFindResult) else prior
        if start is not None:
            start = real("tune: prior", start, "a positive rate or what lr_find returned")
            if not 0 < start < math.inf:
                raise ValueError(f"tune: prior must be a positive rate, got {start}")
        self._sign, self._store = sign, store
        self.space, self._method, self._seed, self._start = space, method, seed, start
        known = [record.times(sign) for record in _numbered(store.read(), self._key)]
        used = {record.number for record in known}
        self._numbers: Iterator[int] = (n for n in itertools.count() if n not in used)
        self._running: dict[int, Point] = {}
        self._rate = next(
            (n for n, v in space.items() if isinstance(v, LogUniform) and not v.whole), ""
        )
        self._only_grid, self._is_sweep = method == "grid", points is not None
        self._places: dict[int, int] = {}  # where in a sweep a run is
        if points is not None:
            known = self._matched(points, known)
        elif method == "grid":
            points = grid(space, trials, seed)
        self._grid = deque(self._missing(points or [], known))
        # What a run came to before counts until it has been made again.
        self._before = {r.number: r for r in known if retry and r.state in LOST}
        self._again = deque(self._before.values())
        self.records = [record for record in known if record.number not in self._before]
        # A resumed search must not draw its first points again.
        again = seed + RESEED * len(self.records)
        self._model = TPE(space, self.records, again) if method == "tpe" else None

    def _missing(
        self, points: Sequence[Point], records: Sequence[TrialRecord]
    ) -> Iterator[tuple[int, Point]]:
        """The points that no record has, each as often as it is asked for, and their places."""
        known = Counter(self._key(record.point) for record in records) if points else {}
        for place, point in enumerate(points):
            key = self._key(point)
            if known.get(key, 0):
                known[key] -= 1
            else:
                yield place, point

    def _matched(
        self, points: Sequence[Point], records: Sequence[TrialRecord]
    ) -> list[TrialRecord]:
        """The records of the points of a sweep, in their order."""
        known: dict[Any, deque[TrialRecord]] = {}
        for record in records:
            known.setdefault(self._key(record.point), deque()).append(record)
        matched = []
        for place, point in enumerate(points):
            if found := known.get(self._key(point)):
                matched.append(found.popleft())
                self._places[matched[-1].number] = place
        return matched

    def _key(self, point: Point) -> tuple[Any, ...]:
        return tuple(
            identity(point[n]) if isinstance(v, Choice) else point[n] for n, v in self.space.items()
        )

    def wants(self, trials: int) -> bool:
        """Whether one more run belongs to so many; a grid ends with its last point."""
        if self._again or self._is_sweep:
            return bool(self._again or self._grid)
        return len(self.records) < trials and bool(self._grid or not self._only_grid)

    def order(self, pruning: Pruning) -> Order:
        """The next run, as it is sent to a worker."""
        number, point = self.ask()
        return Order(number, point, pruning.judge(number))

    def ask(self) -> tuple[int, Point]:
        """The number and the point of the next run."""
        if self._again:
            before = self._again.popleft()
            self._running[before.number] = before.point
            return before.number, before.point
        number = next(self._numbers)
        if self._grid:
            self._places[number], point = self._grid.popleft()
        elif self._model is not None:
            point = self._model.ask(number, self._first(number))
        else:
            point = draw(self.space, np.random.default_rng((self._seed, number)))
            if self._method == "lr":
                point = self._closer(number, point)
        self._running[number] = point
        return number, point

    def _first(self, number: int) -> dict[str, float]:
        if number or self._start is None or not self._rate:
            return {}
        span: Any = self.space[self._rate]
        return {self._rate: min(max(self._start, span.low), span.high)}

    def _closer(self, number: int, point: Point) -> Point:
        """The next rate, and the other values with it once there are rates to start from."""
        # Runs under way count as lost, so that others look elsewhere.
        known = [(r.point, r.value) for r in self.records]
        known += [(p, math.inf) for p in self._running.values()]
        span: Any = self.space[self._rate]
        if len(self.space) > 1:
            ended = [(value, at[self._rate]) for at, value in known if math.isfinite(value)]
            if self._start is None and (len(known) < FIRST or not ended):
                point = middle(self.space)
            else:
                start = min(ended)[1] if self._start is None else self._start
                start = min(max(start, span.low), span.high)
                rng = np.random.default_rng((self._seed, number))
                return next_point(self.space, self._rate, known, start, rng)
        tried = [(at[self._rate], value) for at, value in known]
        return {**point, self._rate: next_rate(span.low, span.high, tried, self._start)}

    def tell(self, record: TrialRecord, keep: bool = True) -> list[TrialRecord]:
        """Take the record of a run, and keep it in the store; the records of what is over."""
        point = self._running.pop(record.number)
        if record.point is not point:  # of a worker, whose options are copies
            record = replace(record, point=point)
        if self._model is not None:
            self._model.tell(record.number, record)
        if keep:
            self._store.append(record.times(self._sign))
        self._before.pop(record.number, None)
        self.records.append(record)
        return [record]

    def first(self, trials: int) -> tuple[TrialRecord, ...]:
        """So many records, in the order of their numbers, with the values of the objective.

        Those of a sweep are in the order of its points.
        """
        known = [*self.records, *self._before.values()]
        places = self._places if self._is_sweep else {}
        ordered = sorted(known, key=lambda record: places.get(record.number, record.number))
        return tuple(record.times(self._sign) for record in ordered[:trials])


def _numbered(
    records: Sequence[TrialRecord], key: Callable[[Point], Hashable]
) -> list[TrialRecord]:
    """The records with a number each; those of files that had none are counted.

    The last of one number is the one that counts where they have one point, as those of a run that
    was made again have, and of two searches that once wrote to one file; of others each is a run.
    A run that was lost and had no number may have been made again under one.
    """
    made = {key(record.point) for record in records if record.number >= 0}
    last: dict[Any, TrialRecord] = {}
    for k, record in enumerate(records):
        numbered = record.number >= 0
        if not numbered and record.state in LOST and key(record.point) in made:
            continue
        last[(record.number, key(record.point)) if numbered else k] = record
    used, apart = {record.number for record in last.values()}, set[int]()
    free = (n for n in itertools.count() if n not in used)
    found = []
    for record in last.values():
        if record.number < 0 or record.number in apart:
            record = replace(record, number=next(free))
        apart.add(record.number)
        found.append(record)
    return found
