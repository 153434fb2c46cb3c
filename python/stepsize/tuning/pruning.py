"""Pruning: which runs stop before their end."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Protocol

from stepsize.tuning.trials import Judge, Limits, Outcome, TrialRecord

REDUCTION = 3  # ASHA's eta: reports between rungs grow, and runs shrink, by this factor
FEWEST, FEWEST_ASHA = 4, 3  # runs that reported a step before it can stop another


class Pruning(Protocol):
    """Gives each run its judge, and is told what came of it."""

    def judge(self, number: int) -> Judge: ...

    def tell(self, outcome: Outcome) -> None: ...


class Never:
    """No run is stopped because of others."""

    def judge(self, number: int) -> Judge:
        return Limits({})

    def tell(self, outcome: Outcome) -> None:
        pass


class Quantiles:
    """For each step that enough runs reported: the value a new run must not exceed.

    The median of the others, as in Golovin et al. 2017 (Vizier), section 3.1.2; with `asha`
    the best third of them, at the first, third, ninth, ... report only, as in Li et al. 2020
    (ASHA), arXiv:1810.05934, Algorithm 2. What a record adds is added once: the cost of a run does
    not grow with the runs before it.
    """

    def __init__(self, records: Sequence[TrialRecord], asha: bool, sign: int = 1) -> None:
        self._asha, self._sign = asha, sign
        self._share, self._fewest = (1 / REDUCTION, FEWEST_ASHA) if asha else (1 / 2, FEWEST)
        self._seen: dict[int, list[float]] = {}  # by step, in order
        self._limits: dict[int, float] = {}
        for record in records:
            self._add(record)

    def judge(self, number: int) -> Judge:
        return Limits(dict(self._limits), self._sign)

    def tell(self, outcome: Outcome) -> None:
        self._add(outcome.record)

    def _add(self, record: TrialRecord) -> None:
        rung = 1
        for k, (step, value) in enumerate(record.reports, start=1):
            if self._asha and k != rung:
                continue
            rung *= REDUCTION
            seen = self._seen.setdefault(step, [])
            insort(seen, value if math.isfinite(value) else math.inf)
            if len(seen) >= self._fewest:
                self._limits[step] = seen[place(len(seen), self._share)]


def place(count: int, share: float) -> int:
    """The index of a quantile among so many, as NumPy's method "higher" has it."""
    return math.ceil(count * share + (1 - share) - 1)
