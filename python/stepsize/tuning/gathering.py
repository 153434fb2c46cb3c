"""The loop of a search: points are asked for, run somewhere, and their records told."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stepsize.training.interrupts import Interrupt
from stepsize.tuning.dispatch import Dispatcher
from stepsize.tuning.executors import Workers
from stepsize.tuning.progress import SearchProgress
from stepsize.tuning.pruning import Pruning
from stepsize.tuning.study import Study
from stepsize.tuning.trials import LOST, Order, Outcome, Task, takes_trial
from stepsize.validation import choice, counted, truth, whole


@dataclass
class Plan:
    """What a search was asked to do, beside where it looks."""

    label: str
    objective: Callable[..., Any]
    trials: int
    sign: int
    executor: Any
    on_error: str
    retries: int
    threads: int | None
    progress: bool | None
    workers: Workers | None = None
    interrupt: Interrupt = field(default_factory=lambda: Interrupt(terminate=True))

    def check(self, *sent: Any) -> None:
        """Check all of it, and that it can be sent to the workers with the rest of `sent`."""
        if not callable(self.objective):
            raise TypeError(
                f"{self.label}: objective must be a function of a point, a dict, got "
                f"{self.objective!r:.80}"
            )
        choice(f"{self.label}: on_error", self.on_error, ("record", "raise"))
        whole(f"{self.label}: retries", self.retries, 0)
        if self.threads is not None:
            whole(f"{self.label}: threads", self.threads)
        if self.progress is not None:
            truth(f"{self.label}: progress", self.progress)
        if self.executor is not None:
            self.workers = Workers(self.label, self.executor, self.threads)
            self.workers.try_to_send(self.objective, *sent)

    @contextlib.contextmanager
    def delivers(self) -> Iterator[None]:
        """A block at whose end a SIGTERM that ended the search does what it would have done."""
        try:
            yield
        finally:
            self.interrupt.deliver()

    @property
    def task(self) -> Task:
        """What a worker does for each run."""
        takes = takes_trial(self.objective)
        return Task(self.objective, takes, self.sign, self.on_error == "raise", self.label)


class _Notes:
    """Where the outcomes of a search go."""

    def __init__(self, plan: Plan, study: Study, pruning: Pruning, progress: SearchProgress):
        self._plan, self._study, self._pruning, self._progress = plan, study, pruning, progress
        self._warned = False
        self.raised = -1  # the run that raised what ended the search

    def order(self) -> Order:
        return self._study.order(self._pruning)

    def take(self, outcome: Outcome, keep: bool = True) -> None:
        record = outcome.record
        if outcome.error is not None:
            self.raised = record.number
            outcome.error.add_note(f"{self._plan.label}: run {record.number} raised it")
            raise outcome.error
        self._pruning.tell(outcome)
        for over in self._study.tell(record, keep):
            self._progress.tell(over)
        if record.state in LOST and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._plan.label}: run {record.number} {_was(record.state)}: {record.reason}; "
                'the search goes on, on_error="raise" would end it where one fails',
                RuntimeWarning,
                stacklevel=5,
            )


def _was(state: str) -> str:
    return "failed" if state == "failed" else "was killed"


def gather(plan: Plan, study: Study, pruning: Pruning) -> str:
    """Run a study to its end; why it ended before, or "" where it did not.

    A SIGTERM that ended it is delivered at the end of `Plan.delivers`, when all is put away.
    """
    before, interrupt = len(study.records), plan.interrupt
    progress = SearchProgress(plan.progress, plan.trials, plan.sign)
    progress.start(study.records)
    notes = _Notes(plan, study, pruning, progress)
    why = ""
    try:
        with interrupt:
            if plan.workers is None:
                _here(plan, study, notes, interrupt)
            else:
                why = _elsewhere(plan, plan.workers, study, notes, interrupt)
    except KeyboardInterrupt:
        if not interrupt.pending:
            if notes.raised < 0 or not study.first(1):
                raise
            why = f"interrupted by a KeyboardInterrupt of run {notes.raised}"
    finally:
        progress.close()
    if interrupt.twice:
        raise KeyboardInterrupt
    if interrupt.pending:
        if not study.first(1):
            raise KeyboardInterrupt
        why = "terminated by SIGTERM" if interrupt.terminated else "interrupted"
    if not why:
        return ""
    came = counted(len(study.records) - before, "run")
    return f"{why} after {came} of this call, {len(study.records)} of {plan.trials} in all"


def _here(plan: Plan, study: Study, notes: _Notes, interrupt: Interrupt) -> None:
    """One run after the other, in this process."""
    task = plan.task
    while study.wants(plan.trials) and not interrupt.pending:
        order = notes.order()
        interrupt.at_once = True
        outcome = task(order)
        interrupt.at_once = False
        if not interrupt.pending:  # else a training in it was cut short, whose value says nothing
            notes.take(outcome)


def _elsewhere(
    plan: Plan, workers: Workers, study: Study, notes: _Notes, interrupt: Interrupt
) -> str:
    """Runs on an executor, as many at once as it has workers."""
    dispatcher = Dispatcher(workers, plan.task, plan.retries)
    kill = True
    try:
        interrupt.at_once = True
        workers.start(plan.objective, study.space)
        while (dispatcher.busy or study.wants(plan.trials)) and not interrupt.pending:
            interrupt.at_once = False  # what is told is told as a whole
            while dispatcher.has_room and study.wants(plan.trials - dispatcher.busy):
                dispatcher.send(notes.order())
            if not dispatcher.busy:
                break
            interrupt.at_once = True
            outcome = dispatcher.receive()
            interrupt.at_once = False
            if outcome is None or (interrupt.pending and outcome.record.state == "killed"):
                continue  # a signal to all processes of a job ends its workers too
            # What a broken executor lost may run when the search is resumed.
            lost = dispatcher.broken and outcome.record.state == "killed"
            notes.take(outcome, keep=not lost)
        kill = interrupt.pending
    finally:
        dispatcher.cancel()
        workers.close(kill)
    return dispatcher.broken and f"the executor broke, {dispatcher.broken},"
