"""One run of an objective, and what is kept of it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stepsize.tuning.origin import function_name
from stepsize.tuning.space import Point
from stepsize.validation import as_loss, words_of

MOST = 300  # characters of a reason
CHANGEABLE = (list, dict, set, bytearray, tuple, np.ndarray)  # or may hold what is
LOST = ("failed", "killed")  # states of runs that say nothing about their point


class Stopped(Exception):
    """Raised by `Trial.report` to end a run early (pruning); `tune` catches it."""


class Judge(Protocol):
    """Says after each report whether a run should stop; it is sent to the worker with the run."""

    def stops(self, step: int, value: float) -> str:
        """Why the run should stop after this report, or "" where it should go on."""

    def attributes(self) -> dict[str, Any]:
        """What the driver should know of this run beside its record."""


class Limits:
    """For each step the value, times the sign, that a run must not exceed there."""

    def __init__(self, limits: Mapping[int, float], sign: int = 1) -> None:
        self._limits, self._sign = limits, sign

    def stops(self, step: int, value: float) -> str:
        limit = self._limits.get(step, math.inf)
        if self._sign * value <= limit:
            return ""
        return f"{value:.4g} at step {step}, where others had {self._sign * limit:.4g}"

    def attributes(self) -> dict[str, Any]:
        return {}


class Trial:
    """What an objective of two arguments is given, to report intermediate values.

    `number` counts the runs of the search from 0. Where a search has a `budget`, its runs are told
    by `budget` how many steps, or epochs, to have trained at the end of this call, and by
    `checkpoint` the path of a file in which to keep what the next call goes on from; `share` is
    this budget over the largest, for a part of the data to begin with.
    """

    def __init__(
        self,
        limits: Mapping[int, float] | Judge,
        sign: int = 1,
        *,
        number: int = 0,
        budget: int | None = None,
        most: int | None = None,
        checkpoint: str | None = None,
    ) -> None:
        self._judge = Limits(dict(limits), sign) if isinstance(limits, Mapping) else limits
        self.number, self.budget, self.checkpoint = number, budget, checkpoint
        self.share = 1.0 if budget is None or most is None else budget / most
        self.reports: list[tuple[int, float]] = []
        self.reason = ""
        self.verdict = ""

    def report(self, step: int, value: float, history: Any = None) -> None:
        """Report a value of this step; ends a run where others did better at the same step.

        With the `history` of the run so far, a `History`, it also ends where `diagnose` calls it
        diverging. Raises Stopped, which is for `tune` to catch, also when the value is not finite.
        """
        value = _reported(value)
        step = _step(step)
        self.reports.append((step, value))
        if not math.isfinite(value):
            self.reason = f"reported {value} at step {step}"
            raise Stopped
        if history is not None:
            self.verdict = _verdict(history)
            if self.verdict == "diverging":
                self.reason = f"diagnosed as diverging at step {step}"
                raise Stopped
        self.reason = self._judge.stops(step, value)
        if self.reason:
            raise Stopped

    def attributes(self) -> dict[str, Any]:
        """What the judge of this run hands back to the driver."""
        return self._judge.attributes()


@dataclass(frozen=True)
class TrialRecord:
    """One run: its point, its value, and its reports.

    `state` is "done", "stopped" (others did better), "diverged", "failed" (the objective raised) or
    "killed" (the worker died, at every attempt). The value of a run that is not "done" is infinite,
    above zero or, where higher is better, below; `reason` says why in words. `number` counts the
    runs of a search; `verdict` is the diagnosis of the history that the objective returned.
    """

    point: Point
    value: float
    state: str
    reports: tuple[tuple[int, float], ...]
    seconds: float
    number: int = -1
    reason: str = ""
    verdict: str = ""

    def times(self, sign: int) -> TrialRecord:
        """The record with its values times a sign: what is maximized is minimized inside."""
        if sign == 1:
            return self
        reports = tuple((step, sign * value) for step, value in self.reports)
        return replace(self, value=sign * self.value, reports=reports)


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: the record, the exception if it ends the search, and attributes."""

    record: TrialRecord
    error: BaseException | None = None
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Order:
    """What a worker is told of one run."""

    number: int
    point: Point
    judge: Judge
    budget: int | None = None
    most: int | None = None
    checkpoint: str | None = None
    before: str | None = None  # the checkpoint that it begins with


@dataclass(frozen=True)
class Task:
    """The objective, and how it is called."""

    objective: Callable[..., Any]
    takes_trial: bool
    sign: int = 1
    raises: bool = False
    label: str = "tune"

    def __call__(self, order: Order) -> Outcome:
        """One run. The values of its record are times the sign."""
        trial = Trial(
            order.judge,
            number=order.number,
            budget=order.budget,
            most=order.most,
            checkpoint=order.checkpoint,
        )
        began, state, value, error = time.perf_counter(), "done", math.inf, None
        own = {name: _copied(held) for name, held in order.point.items()}  # it may change them
        try:
            _bring(order.before, order.checkpoint)
            told = self.objective(own, trial) if self.takes_trial else self.objective(own)
            value = self.sign * self._value(told, trial)
        except Stopped:
            state = "stopped"
        except FloatingPointError as caught:
            state, trial.reason = "diverged", _words(caught)
        except BaseException as caught:
            state, trial.reason = "failed", _words(caught)
            error = caught if self.raises or _ends_all(caught) else None
        if not math.isfinite(value):
            lost = bool(trial.reports) and not math.isfinite(trial.reports[-1][1])
            if state == "done":
                state, trial.reason = "diverged", f"returned {self.sign * value}"
            elif state == "stopped" and (lost or trial.verdict == "diverging"):
                state = "diverged"
            value = math.inf
        reports = tuple((step, self.sign * told) for step, told in trial.reports)
        seconds = time.perf_counter() - began
        record = TrialRecord(
            order.point, value, state, reports, seconds, order.number, trial.reason, trial.verdict
        )
        return Outcome(record, error, trial.attributes())

    def _value(self, told: Any, trial: Trial) -> float:
        if isinstance(told, tuple) and len(told) == 2:
            from stepsize.training.history import History

            if isinstance(told[1], History):
                trial.verdict = _verdict(told[1])
                told = told[0]
        try:
            return as_loss(told)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{self.label}: objective must return one number, it returned {told!r:.80}; see "
                f"what {function_name(self.objective)} returns"
            ) from None


def _ends_all(error: BaseException) -> bool:
    """Whether an exception is none that a run may keep: Ctrl-C, or what no library should catch.

    Of those that are no Exception the ends of a program, of a generator and of a task of asyncio
    say that this run is over, not the search.
    """
    over = Exception | SystemExit | GeneratorExit
    return not (isinstance(error, over) or "Cancelled" in type(error).__name__)


def _bring(before: str | None, checkpoint: str | None) -> None:
    """Put a copy of one checkpoint where a run looks for its own, unless it has one."""
    if before and checkpoint and os.path.exists(before) and not os.path.exists(checkpoint):
        half = f"{checkpoint}.{os.getpid()}"
        shutil.copyfile(before, half)
        os.replace(half, checkpoint)


def _verdict(history: Any) -> str:
    from stepsize.diagnosis import diagnosis_or_reason

    if not len(history.get("loss", ())):  # stopped at its start
        return ""
    found = diagnosis_or_reason(history)
    return "" if isinstance(found, str) else str(found.verdict)


def _words(error: BaseException) -> str:
    """An exception in words, with the line of the user's that raised it, if it was one of those."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = not frames or frames[0].filename == __file__
    at = "" if own else f" ({Path(frames[0].filename).name}:{frames[0].lineno})"
    return words_of(error)[:MOST] + at


def _copied(held: Any) -> Any:
    """A copy of what a run may change; what cannot be copied is given as it is."""
    if not (isinstance(held, CHANGEABLE) or dataclasses.is_dataclass(held)):
        return held
    try:
        return copy.deepcopy(held)
    except Exception:
        return held


def _step(step: Any) -> int:
    try:
        return int(step)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"Trial.report: step must be a whole number, got {step!r:.80}") from None


def _reported(value: Any) -> float:
    try:
        return as_loss(value)
    except (TypeError, ValueError):
        raise TypeError(f"Trial.report: value must be one number, got {value!r:.80}") from None


def takes_trial(objective: Callable[..., Any]) -> bool:
    """Whether the objective has a second argument that must be given, or one called `trial`."""
    try:
        parameters = list(inspect.signature(objective).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name == "trial"
    )
