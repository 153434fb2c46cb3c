"""One run of an objective, and what is kept of it."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsize.tuning.space import Point
from stepsize.validation import as_loss


class Stopped(Exception):
    """Raised by `Trial.report` to end a run early (pruning); `tune` catches it."""


class Trial:
    """What an objective of two arguments is given, to report intermediate values.

    With `sign` -1 higher values are better; `limits` are of values times the sign.
    """

    def __init__(self, limits: Mapping[int, float], sign: int = 1) -> None:
        self._limits = dict(limits)
        self._sign = sign
        self.reports: list[tuple[int, float]] = []

    def report(self, step: int, value: float) -> None:
        """Report a value of this step; ends a run where others did better at the same step.

        Raises Stopped, which is for `tune` to catch, also when the value is not finite.
        """
        value = _number(value, "Trial.report: value must be one number, got")
        step = _step(step)
        self.reports.append((step, value))
        limit = self._limits.get(step, math.inf)
        if not self._sign * value <= limit or not math.isfinite(value):
            raise Stopped


@dataclass(frozen=True)
class TrialRecord:
    """One run: its point, its value, and its reports.

    `state` is "done", "stopped" (others did better) or "diverged". The value of a run that is not
    "done" is infinite, above zero or, where higher is better, below.
    """

    point: Point
    value: float
    state: str
    reports: tuple[tuple[int, float], ...]
    seconds: float

    def times(self, sign: int) -> TrialRecord:
        """The record with its values times a sign: what is maximized is minimized inside."""
        reports = tuple((step, sign * value) for step, value in self.reports)
        return replace(self, value=sign * self.value, reports=reports)


def run(
    objective: Callable[..., float], point: Point, limits: dict[int, float], sign: int = 1
) -> TrialRecord:
    """One run; at module level so that executors can pickle it. Its values are times the sign."""
    trial, began = Trial(limits, sign), time.perf_counter()
    state, value = "done", math.inf
    own = {name: _copied(held) for name, held in point.items()}  # which the objective may change
    try:
        told = objective(own, trial) if _takes_trial(objective) else objective(own)
        value = sign * _number(told, "tune: objective must return one number, it returned")
    except Stopped:
        state = "stopped"
    except FloatingPointError:
        state = "diverged"
    if not math.isfinite(value):
        lost = bool(trial.reports) and not math.isfinite(trial.reports[-1][1])
        state, value = ("diverged" if state == "done" or lost else state), math.inf
    reports = tuple((step, sign * told) for step, told in trial.reports)
    return TrialRecord(point, value, state, reports, time.perf_counter() - began)


def _copied(held: Any) -> Any:
    return copy.deepcopy(held) if isinstance(held, list | dict | set | np.ndarray) else held


def _step(step: Any) -> int:
    try:
        return int(step)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"Trial.report: step must be a whole number, got {step!r:.80}") from None


def _number(told: Any, words: str) -> float:
    try:
        return as_loss(told)
    except (TypeError, ValueError):
        raise TypeError(f"{words} {told!r:.80}") from None


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
