"""Steps beside the memory they move: bytes an element, GB/s, and the share of a plain loop's."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import _core
from stepsize.arrays import Array

__all__ = ["Entry", "Yardstick", "bytes_per_element", "entries", "in_turns", "medians", "ratio"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Entry:
    """A rule under some hyperparameters, as one line of a page."""

    name: str
    cls: Any
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def make(self, x: Array) -> Any:
        """The optimizer, without the look for NaN that peers do without, too."""
        return self.cls(x, on_nonfinite="ignore", **self.keywords)

    def stepper(self, optimizer: Any, g: Array) -> Step:
        """One step of it."""
        more = {"loss": 1.0} if self.cls.needs_loss else {}
        return lambda: optimizer.step(g, **more)

    @property
    def passes(self) -> int:
        return 1 if self.cls.scope is None else 2


def entries() -> list[Entry]:
    """Every accelerated rule, and SGD with momentum."""
    rules = [cls for cls in ss.optimizers.registry() if cls.accelerated]
    found = [Entry(cls.__name__, cls) for cls in rules if not cls.needs_closure]
    return [*found, Entry("SGD, momentum", ss.SGD, {"momentum": 0.9})]


@functools.cache
def bytes_per_element(entry: Entry, width: int = 4) -> int:
    """Bytes that a step must move for each element of one large array, from its streams.

    The gradient is read, the parameter read and written, and so is every state array of the
    parameter's size, but for those that a few steps leave as they are, which are only read. Rules
    of two passes read parameter and gradient twice.
    """
    random = np.random.default_rng(0)
    x = random.standard_normal(512, np.float32)
    optimizer = entry.make(x)
    slots = optimizer.state["params"]
    before: dict[str, Array] = {}
    for _ in range(12):  # more than the steps that warm up some rules
        before = {name: slot.copy() for name, slot in slots.items()}
        entry.stepper(optimizer, random.standard_normal(512, np.float32))()
    streams = 3 + 2 * (entry.passes - 1)
    for name, slot in slots.items():
        if slot.size == x.size:
            streams += 1 if np.array_equal(slot, before[name]) else 2
    return width * streams


class Yardstick:
    """``x = x / 2 + y`` over large arrays in C++, on the threads that steps use.

    It runs with the prefetching of the steps' own loop or without, whichever is the faster here.
    """

    bytes = 12

    def __init__(self, size: int) -> None:
        self.size = size
        self._x, self._y = (_core.allocate(4 * size).view(np.float32) for _ in range(2))
        self._x[...], self._y[...] = 0.0, 1.0
        self._runs = 0
        times = in_turns({on: functools.partial(self.run, on) for on in (False, True)}, 0.05)
        self.ahead = statistics.median(times[True]) < statistics.median(times[False])

    def run(self, ahead: bool | None = None) -> None:
        self._runs += 1
        _core.triad(self._x, self._y, self.ahead if ahead is None else ahead)

    def check(self) -> None:
        """Every element has made every run."""
        if not np.all(self._x == 2 - np.float32(2.0 ** (1 - min(self._runs, 100)))):
            raise AssertionError("the triad computed something else")


def in_turns(steps: Mapping[Any, Step], seconds: float, least: int = 5) -> dict[Any, list[float]]:
    """Seconds a call of each, in turns, so that a slow moment of the machine counts for all.

    Short calls are timed many at a time.
    """
    calls = {}
    for name, step in steps.items():
        step()
        calls[name] = max(1, int(2e-4 / max(min(_time(step, 1) for _ in range(3)), 1e-7)))
    times: dict[Any, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds * len(steps)
    order = list(steps)
    while len(times[order[0]]) < least or time.perf_counter() < end:
        for name in order:
            times[name].append(_time(steps[name], calls[name]))
        order.reverse()
    return times


def _time(step: Step, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def medians(times: Mapping[Any, list[float]]) -> dict[Any, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: Mapping[Any, list[float]], over: Any, under: Any) -> float:
    """The median of the ratios of neighbouring calls."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))
