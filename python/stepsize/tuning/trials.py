"""One run of an objective, and what is kept of it."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stepsize.tuning.space import Point


class Stopped(Exception):
    """Raised by `Trial.report` to end a run early (pruning); `tune` catches it."""


class Trial:
    """What an objective of two arguments is given, to report intermediate values."""

    def __init__(self, limits: Mapping[int, float]) -> None:
        self._limits = dict(limits)
        self.reports: list[tuple[int, float]] = []

    def report(self, step: int, value: float) -> None:
        """Report a value of this step, lower being better; ends a run that others did better than.

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


def run(objective: Callable[..., float], point: Point, limits: dict[int, float]) -> TrialRecord:
    """One run; at module level so that executors can pickle it."""
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
