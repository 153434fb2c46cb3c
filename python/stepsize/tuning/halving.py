"""Successive halving that continues runs: the best third go on from where they stopped."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stepsize.tuning.pruning import REDUCTION, Pruning
from stepsize.tuning.samplers import draw
from stepsize.tuning.space import Point
from stepsize.tuning.study import Study
from stepsize.tuning.trials import Order, TrialRecord
from stepsize.validation import whole


def rungs(budget: Any) -> list[int]:
    """The budgets of the rungs, from the least by factors of three to the most.

    >>> rungs((10, 90)), rungs((10, 100)), rungs((10, 20))
    ([10, 30, 90], [10, 30, 90, 100], [10, 20])
    """
    try:
        least, most = budget
    except (TypeError, ValueError):
        raise TypeError(
            f"tune: budget must be a pair (least, most) of steps or epochs, got {budget!r:.80}"
        ) from None
    least = whole("tune: budget[0]", least)
    most = whole("tune: budget[1]", most, least + 1)
    found = [least]
    while found[-1] * REDUCTION < most:
        found.append(found[-1] * REDUCTION)
    return [*found, most]


class Halving(Study):
    """All runs train to the first budget, the best third of them on to the second, and so on.

    Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943), rung by rung: a rung ends with
    its last run, so that who goes on depends on no order of arrival. The first run is at the prior
    rate, if there is one. A run is told once it is over.
    Each rung of a run has a file of its own for what the next rung continues.
    """

    def __init__(
        self,
        *given: Any,
        budgets: Sequence[int],
        folder: Path,
        trials: int,
        retry: bool = False,
    ) -> None:
        super().__init__(*given, retry=retry)
        self._budgets, self._folder, self._trials = list(budgets), folder, trials
        self._over = {record.number: record for record in self.records}
        self._held: dict[int, TrialRecord] = {}  # between two rungs
        self._points = {number: record.point for number, record in self._before.items()}
        self._rung, self._members = -1, list(range(trials))
        self._queue: deque[int] = deque()
        self._open: set[int] = set()
        self._advance()

    def wants(self, trials: int) -> bool:
        """Whether a run waits to go on; `trials` bounds runs, not calls, and is not needed."""
        return bool(self._queue)

    def order(self, pruning: Pruning) -> Order:
        """The next call: a run, the budget it is to reach, and the files it goes on from."""
        number, budget = self._queue.popleft(), self._budgets[self._rung]
        before = self._file(number, self._rung - 1) if self._rung else None
        return Order(
            number,
            self._point(number),
            pruning.judge(number),
            budget,
            self._budgets[-1],
            self._file(number, self._rung),
            before,
        )

    def tell(self, record: TrialRecord, keep: bool = True) -> list[TrialRecord]:
        """Take what a call came to; the records of the runs that are over with it."""
        number, budget = record.number, self._budgets[self._rung]
        self._open.discard(number)
        before = self._held.pop(number, None)
        reports = record.reports
        if record.state == "done":
            reports = (*(r for r in reports if r[0] != budget), (budget, record.value))
        if before is not None:
            reports = (*before.reports, *reports)
            record = replace(record, seconds=before.seconds + record.seconds)
        record = replace(record, point=self._point(number), reports=reports)
        ended = []
        if record.state != "done" or self._rung == len(self._budgets) - 1:
            ended = [self._end(record, keep)]
        else:
            self._held[number] = record
        return [*ended, *self._advance()]

    def first(self, trials: int) -> tuple[TrialRecord, ...]:
        """The records, with those of runs that an interruption left between two rungs."""
        held = [self._stopped(r, "interrupted before it went on") for r in self._held.values()]
        known = {record.number: record for record in (*self._before.values(), *self.records, *held)}
        ordered = sorted(known.values(), key=lambda record: record.number)
        return tuple(record.times(self._sign) for record in ordered[:trials])

    def _advance(self) -> list[TrialRecord]:
        """Where a rung is over, begin the next; the records of runs that do not go on."""
        ended: list[TrialRecord] = []
        while not self._open and self._rung < len(self._budgets) - 1:
            if self._rung >= 0:
                self._members, others = self._split()
                ended += [self._end(self._held.pop(n)) for n in others if n in self._held]
            self._rung += 1
            self._open = {n for n in self._members if n not in self._over}
            self._queue.extend(n for n in self._members if n in self._open)
            if not self._members:
                break
        return ended

    def _split(self) -> tuple[list[int], list[int]]:
        """The runs that go on, and the others."""
        values = {n: self._value(n) for n in self._members}
        finite = sorted((n for n in values if math.isfinite(values[n])), key=lambda n: values[n])
        best = set(finite[: max(1, len(self._members) // REDUCTION)])
        others = [n for n in self._members if n not in best]
        place = {n: k for k, n in enumerate(finite, start=1)}
        for n in others:
            if n in self._held:
                told = f"{place[n]} of {len(self._members)} after {self._budgets[self._rung]}"
                self._held[n] = self._stopped(self._held[n], told)
        return [n for n in self._members if n in best], others

    def _value(self, number: int) -> float:
        record = self._held.get(number) or self._over.get(number)
        reports = dict(record.reports) if record else {}
        return reports.get(self._budgets[self._rung], math.inf)

    def _stopped(self, record: TrialRecord, reason: str) -> TrialRecord:
        return replace(record, value=math.inf, state="stopped", reason=reason)

    def _end(self, record: TrialRecord, keep: bool = True) -> TrialRecord:
        self._over[record.number] = record
        self._before.pop(record.number, None)
        self.records.append(record)
        if keep:
            self._store.append(record.times(self._sign))
        return record

    def _point(self, number: int) -> Point:
        if number not in self._points:
            rng = np.random.default_rng((self._seed, number))
            self._points[number] = {**draw(self.space, rng), **self._first(number)}
        return self._points[number]

    def _file(self, number: int, rung: int) -> str:
        return str(self._folder / f"run-{number:05d}-{self._budgets[rung]}.checkpoint")
