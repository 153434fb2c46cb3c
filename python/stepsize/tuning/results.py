"""What `tune` returns."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepsize.finder.results import frame
from stepsize.tuning.space import Listed, LogUniform, Point, Uniform
from stepsize.tuning.trials import LOST, TrialRecord
from stepsize.validation import counted

AS_GOOD = 1 / 20  # share of the way from the best value to the upper quartile


STATES = ("done", "stopped", "diverged", "failed", "killed")


class _NoPoint(dict[str, Any]):
    """The best point where there is none: empty, and it says why."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"every run was lost, so there is no best {name}: {self._why}")


@dataclass(frozen=True, repr=False)
class TuneResult:
    """All runs of a search or sweep, in the order of their numbers; print it to read it.

    `stopped` says why it ended early, interrupted or for want of an executor; "" if it did not.
    """

    trials: tuple[TrialRecord, ...]
    direction: str = "minimize"
    space: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    stopped: str = ""

    @property
    def ranked(self) -> list[TrialRecord]:
        """The runs, best first."""
        sign = -1 if self.direction == "maximize" else 1
        return sorted(self.trials, key=lambda t: sign * t.value)

    @property
    def best(self) -> Point:
        """The point with the best value; empty where every run was lost."""
        first = self.ranked[0]
        return dict(first.point) if first.state == "done" else _NoPoint(self._loss())

    @property
    def best_value(self) -> float:
        """The best value; infinite where every run was lost."""
        return self.ranked[0].value

    def _loss(self) -> str:
        """How many runs came to what, and the first reason that one gave."""
        reason = next((t.reason for t in self.trials if t.reason), "")
        return f"{self._counts()}{f', the first: {reason}' if reason else ''}; see the table"

    def _move(self) -> str:
        """What to do where every run was lost."""
        told = next((t.reason for t in self.trials if t.state in LOST), "")
        again = "; with storage=, retry_failed=True makes such runs again"
        return f"mend what ended the first: {told}{again}" if told else "search other ranges"

    def _counts(self) -> str:
        counts = Counter(t.state for t in self.trials)
        return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])

    def to_pandas(self) -> Any:
        """The runs, in their order, as a `pandas.DataFrame`."""
        names = ("value", "state", "seconds", "reason", "verdict")
        rows = [{**t.point, **{name: getattr(t, name) for name in names}} for t in self.trials]
        return frame({name: [row[name] for row in rows] for name in rows[0]})

    def is_number(self, name: str) -> bool:
        """Whether a name of the space is a number along an axis: a float, or whole in a range."""
        values = [t.point[name] for t in self.trials]
        if all(isinstance(v, float) for v in values):
            return True
        span = self.space.get(name)
        return (
            span.is_numeric if isinstance(span, Listed) else isinstance(span, Uniform | LogUniform)
        )

    @property
    def interval(self) -> tuple[float, float]:
        """Where a single number does as well as the best, on the line through the runs.

        As well: within a twentieth of the way from the best value to the upper quartile. Of a space
        of whole numbers the ends are two of them. NaN where more than one number was searched.
        """
        name, *others = self.trials[0].point
        ended = [t for t in self.trials if t.state == "done"]
        if others or not ended or not self.is_number(name):
            return math.nan, math.nan
        sign = -1 if self.direction == "maximize" else 1
        values = [sign * t.value for t in ended]
        lowest = min(values)
        limit = lowest + AS_GOOD * (float(np.quantile(values, 0.75)) - lowest)
        # Of runs at one place, as whole numbers have them, the best is on the line.
        places: dict[float, float] = {}
        for trial, value in zip(ended, values, strict=True):
            place = float(trial.point[name])
            places[place] = min(value, places.get(place, math.inf))
        known = sorted(places.items())
        best = next(k for k, (_, v) in enumerate(known) if v == lowest)
        low, high = _crossing(known[best::-1], limit), _crossing(known[best:], limit)
        span = self.space.get(name)
        if isinstance(span, Uniform | LogUniform) and span.whole:
            return span.within(low, high)
        return low, high

    def table(self) -> str:
        """The runs as text, best first."""
        names = list(self.trials[0].point)
        columns = {
            "verdict": [t.verdict for t in self.ranked],
            "reason": [t.reason if t.state in LOST else "" for t in self.ranked],
        }
        words = {name: told for name, told in columns.items() if any(told)}
        rows = [[*names, "value", "state", "seconds", *words]]
        rows += [
            [
                *(_short(t.point[n]) for n in names),
                *(_short(t.value), t.state, f"{t.seconds:.2f}"),
                *(told[k] for told in words.values()),
            ]
            for k, t in enumerate(self.ranked)
        ]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        aligned = [*[str.rjust] * (len(names) + 3), *[str.ljust] * len(words)]
        lines = [
            "  ".join(place(cell, w) for place, cell, w in zip(aligned, row, widths, strict=True))
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw value over rate, or over run where there is no rate; returns matplotlib axes."""
        from stepsize.plots import tuning

        return tuning(self, ax)

    def __repr__(self) -> str:
        done = sum(t.state == "done" for t in self.trials)
        best = ", ".join(f"{k}={_short(v)}" for k, v in self.best.items())
        best = f"best value {_short(self.best_value)} at {best}" if best else "no best point"
        return f"<TuneResult {counted(len(self.trials), 'run')}, {done} done, {best}>"

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    def __str__(self) -> str:
        told = self._counts() + (f"; {self.stopped}" if self.stopped else "")
        best = ", ".join(f"{k}={_short(v)}" for k, v in self.best.items())
        if not best:
            return (
                f"{self.table()}\n{counted(len(self.trials), 'run')}: {told}\n"
                f"no best point: every run was lost; {self._move()}"
            )
        low, high = self.interval
        span = f" (as good from {_short(low)} to {_short(high)})" if low < high else ""
        return f"{self.table()}\n{counted(len(self.trials), 'run')}: {told}\nbest: {best}{span}"


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
