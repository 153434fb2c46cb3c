"""Runs on an executor: each comes back once, whatever happens to the workers."""

from __future__ import annotations

import copy
import pickle
import queue
import traceback
import uuid
from collections import deque
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from typing import Any

from stepsize.tuning.executors import POLL, Workers
from stepsize.tuning.pools import limit
from stepsize.tuning.trials import Order, Outcome, Task, TrialRecord
from stepsize.validation import words_of


@dataclass
class _Sent:
    """A run that was sent, how often, and to which of the executors made one after the other."""

    order: Order
    attempts: int = 0
    generation: int = 0
    alone: bool = False
    beside: bool = False  # whether others were lost with it
    future: Any = None
    why: str = ""


class Dispatcher:
    """Sends runs to workers and receives their outcomes.

    A worker that dies takes its run with it, and in a pool of processes all others that are under
    way. These are sent again, `retries` times at most; where a whole pool broke the last attempt is
    made alone, beyond `retries` where there are none, so that no run counts as killed because of
    another.
    """

    def __init__(self, workers: Workers, task: Task, retries: int) -> None:
        self._workers, self._task, self._retries = workers, task, retries
        self._search = uuid.uuid4().hex  # no call is like one of another search, or its repetition
        self._ended: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()
        self._running: dict[int, _Sent] = {}
        self._again: deque[_Sent] = deque()
        self.broken = ""

    @property
    def busy(self) -> int:
        """How many runs have not come back."""
        return len(self._running) + len(self._again)

    @property
    def has_room(self) -> bool:
        """Whether a worker waits for another run."""
        alone = any(sent.alone for sent in (*self._again, *self._running.values()))
        return not (alone or self.broken) and self.busy < self._workers.width

    def send(self, order: Order) -> None:
        """Send a run."""
        self._submit(_Sent(order))

    def receive(self) -> Outcome | None:
        """The next outcome; None after a while without one."""
        self._send_again()
        while True:
            try:
                number, attempt, future = self._ended.get(timeout=POLL)
            except queue.Empty:
                self._workers.say_if_none()
                return None
            sent = self._running.get(number)
            if sent is not None and sent.attempts == attempt:
                break
        del self._running[number]
        try:
            outcome: Outcome = future.result()
        except BaseException as error:  # of the executor: a run keeps its own
            if not isinstance(error, Exception) and "Cancelled" not in type(error).__name__:
                raise  # as KeyboardInterrupt does, and others that no run may keep
            return self._lost(sent, error)
        if sent.attempts > 1 and not outcome.record.reason:
            again = replace(outcome.record, reason=f"run {sent.attempts} times: {sent.why}")
            outcome = replace(outcome, record=again)
        return outcome

    def cancel(self) -> None:
        """Cancel what has not begun."""
        for sent in self._running.values():
            sent.future.cancel()
        self._running.clear()
        self._again.clear()

    def _submit(self, sent: _Sent) -> None:
        sent.attempts += 1
        sent.beside = False
        sent.generation = self._workers.generation
        tag = f"{self._search}/{sent.order.number}/{sent.attempts}"
        number, attempt = sent.order.number, sent.attempts
        try:
            sent.future = self._workers.submit(
                call, self._task, sent.order, self._workers.threads, tag
            )
        except (BrokenExecutor, RuntimeError) as error:  # that it is broken, or was shut down
            sent.future = _Refused(error)
        self._running[number] = sent
        sent.future.add_done_callback(lambda f: self._ended.put((number, attempt, f)))

    def _send_again(self) -> None:
        while self._again and (not self._again[0].alone or not self._running):
            self._submit(self._again.popleft())

    def _lost(self, sent: _Sent, error: BaseException) -> Outcome | None:
        """Send a run again that was lost with its worker, or give it up."""
        sent.why = f"its worker was lost ({words_of(error):.100})"
        whole = isinstance(error, BrokenExecutor) or isinstance(sent.future, _Refused)
        if whole and not self._workers.renew(sent.generation):
            self.broken = sent.why
            return self._killed(sent)
        if whole:
            for other in self._running.values():
                if other.generation == sent.generation:
                    other.beside = sent.beside = True
        if sent.attempts > self._retries and not (whole and sent.beside):
            return self._killed(sent)
        sent.alone = whole and sent.attempts >= self._retries
        if sent.alone:
            self._again.append(sent)
        else:
            self._again.appendleft(sent)
        self._send_again()
        return None

    def _killed(self, sent: _Sent) -> Outcome:
        reason = sent.why if sent.attempts == 1 else f"at {sent.attempts} attempts {sent.why}"
        inf = float("inf")
        return Outcome(
            TrialRecord(sent.order.point, inf, "killed", (), 0.0, sent.order.number, reason)
        )


class _Refused:
    """The future of a call that the executor did not take."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def add_done_callback(self, call: Any) -> None:
        call(self)

    def result(self) -> Any:
        raise self._error

    def cancel(self) -> bool:
        return False


def call(task: Task, order: Order, threads: int | None, tag: str) -> Outcome:
    """One run in a worker; `tag` makes the call unlike any other, for those who remember calls."""
    limit(threads)
    outcome = task(order)
    if outcome.error is None:
        return outcome
    told = "".join(traceback.format_exception(outcome.error)).rstrip()
    error = outcome.error
    try:
        pickle.dumps(error)
        error = copy.copy(error)  # which needs what unpickling needs
    except Exception:
        error = RuntimeError(outcome.record.reason)
    error.add_note(f"in a worker:\n{told}")
    return replace(outcome, error=error)
