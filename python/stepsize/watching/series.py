"""What was read of a run: numbers over steps, in bounded memory, and few points of them to draw."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.curves import mad_noise, moving_average
from stepsize.training.history import History

__all__ = ["EVENTS", "RunLog", "Series"]

EVENTS = ("start", "step", "validation", "epoch", "end")

MOST_ROWS = 500_000  # of a series; beyond them every second one is forgotten
MOST_SERIES = 64
BUCKETS = 300  # of a series that is drawn, each by its lowest and its highest value
SMOOTH = 40  # parts of a run; a curve is smoothed over one
NOISE = 0.005  # of the height of a curve: less noise than this is not smoothed
MOST_FACTS = 12
NO_VALUES = frozenset(("event", "step", "epoch"))
SHORT = 120  # signs of a value in words


class Series:
    """Values over steps, appended one by one."""

    def __init__(self) -> None:
        self._steps, self._values = array("d"), array("d")
        self.stride, self._skipped = 1, 0

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def last(self) -> float:
        """The latest value that is not NaN."""
        return next((value for value in reversed(self._values) if value == value), math.nan)

    @property
    def reached(self) -> float:
        """The step of the latest value that is kept."""
        return self._steps[-1] if self._steps else -math.inf

    @property
    def steps(self) -> Curve:
        """A copy of the steps."""
        return np.array(self._steps)

    @property
    def values(self) -> Curve:
        """A copy of the values."""
        return np.array(self._values)

    def append(self, step: float, value: float) -> None:
        """Add a value; of a very long run only every so many are kept."""
        self._skipped += 1
        if self._skipped < self.stride:
            return
        self._skipped = 0
        self._steps.append(step)
        self._values.append(value)
        if len(self._steps) > MOST_ROWS:
            self._steps, self._values = self._steps[1::2], self._values[1::2]
            self.stride *= 2

    def cut(self, step: float) -> None:
        """Forget what lies after a step."""
        keep = len(self._steps)
        while keep and self._steps[keep - 1] > step:
            keep -= 1
        del self._steps[keep:], self._values[keep:]

    def drawn(self) -> tuple[Curve, Curve]:
        """At most two points a bucket; a value that is not finite is NaN."""
        x, y = self.steps, self.values
        y[~np.isfinite(y)] = np.nan
        if len(x) <= 2 * BUCKETS:
            return x, y
        edges = np.linspace(0, len(x), BUCKETS + 1).astype(int).tolist()
        kept = []
        for first, end in itertools.pairwise(edges):
            part = y[first:end]
            if np.isnan(part).all():
                kept.append(first)
            else:
                kept += sorted({first + int(np.nanargmin(part)), first + int(np.nanargmax(part))})
        return x[kept], y[kept]

    def smoothed(self) -> tuple[Curve, Curve] | None:
        """The moving average in few points, None where there is little noise or little to see."""
        x, y = self.steps, self.values
        seen = np.isfinite(y)
        x, y = x[seen], y[seen]
        window = len(y) // SMOOTH
        if window < 3:
            return None
        log = bool((y > 0).all())
        shown = np.log(y) if log else y
        average = moving_average(shown, window)
        if mad_noise(shown, order=2) <= NOISE * float(np.ptp(average)):
            return None
        at = np.unique(np.linspace(0, len(x) - 1, 2 * BUCKETS).astype(int))
        return x[at], np.exp(average[at]) if log else average[at]


class RunLog:
    """The events of one run, as `JSONLogger` writes them, or rows with a ``step`` of any other."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.facts: list[tuple[str, str]] = []
        self.started = False
        self.stopped: str | None = None
        self.step = 0.0
        self.epoch: float | None = None
        self.events = 0
        self.line = 0  # of the event that is taken
        self.back: tuple[int, float, float] | None = (
            None  # where steps first went back: line, from, to
        )

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take one event; False for what is none."""
        step = event.get("step")
        if not _is_number(step) or not math.isfinite(step):  # type: ignore[arg-type]
            return False
        kind = event.get("event", "step")
        if kind == "start":
            self._start(float(step), event)  # type: ignore[arg-type]
        elif kind == "end":
            self.stopped = str(event.get("stopped", ""))
        elif kind == "epoch":
            epoch = event.get("epoch")
            self.epoch = float(epoch) if _is_number(epoch) else self.epoch  # type: ignore[arg-type]
        elif kind in ("step", "validation"):
            self._add(float(step), event)  # type: ignore[arg-type]
        else:
            return False
        self.step = max(self.step, float(step))  # type: ignore[arg-type]
        self.events += 1
        return True

    def _start(self, step: float, event: Mapping[str, Any]) -> None:
        """A run starts, or goes on from a step: what lies after it was of a run cut off."""
        self.started, self.stopped, self.step = True, None, step
        for series in self.series.values():
            series.cut(step)
        told = [(k, v) for k, v in event.items() if k not in ("event", "step", "seconds")]
        plain = [(k, v) for k, v in told if isinstance(v, str | int | float) and v != ""]
        self.facts = [(str(k)[:SHORT], str(v)[:SHORT]) for k, v in plain[:MOST_FACTS]]

    def _add(self, step: float, event: Mapping[str, Any]) -> None:
        epoch = event.get("epoch")
        self.epoch = float(epoch) if _is_number(epoch) else self.epoch  # type: ignore[arg-type]
        known = self.series
        for name, value in event.items():
            one = known.get(name)
            if type(value) is not float:  # what most are
                if name in NO_VALUES:
                    continue
                if value is None and one is not None:
                    value = math.nan
                elif _is_number(value):
                    value = float(value)
                else:
                    continue
            if one is None:
                if name in NO_VALUES or len(known) >= MOST_SERIES:
                    continue
                one = known[name] = Series()
            if one.reached > step:
                self._go_back(one, step, known.values() if name == "loss" else (one,))
            one.append(step, value)

    def _go_back(self, one: Series, step: float, which: Iterable[Series]) -> None:
        """Forget what a run that was begun anew without saying so writes again."""
        self.back = self.back or (self.line, one.reached, step)
        self.step = step
        for each in which:
            each.cut(math.nextafter(step, -math.inf))

    def history(self) -> History | None:
        """The series as a history with a row for each loss, None without one."""
        loss = self.series.get("loss")
        if loss is None or not len(loss):
            return None
        rows, first = np.unique(loss.steps, return_index=True)
        columns = {"step": rows, "loss": loss.values[first]}
        for name, series in self.series.items():
            if name != "loss":
                place = np.searchsorted(rows, series.steps, side="right") - 1
                columns[name] = np.full(len(rows), np.nan)
                columns[name][place[place >= 0]] = series.values[place >= 0]
        return History.from_arrays(**columns)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
