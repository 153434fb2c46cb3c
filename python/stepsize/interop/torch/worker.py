"""A thread that does one thing after another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Worker:
    """Does tasks in their order; the first that fails is the last, and `wait` raises its error."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done = threading.Condition()
        self._left = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stepsize-backward", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._error is None:
                    task()
            except BaseException as error:
                self._error = error
            finally:
                del task  # it holds a gradient
                with self._done:
                    self._left -= 1
                    self._done.notify_all()

    @property
    def failed(self) -> bool:
        """Whether a task has, and nobody has asked yet."""
        return self._error is not None

    def do(self, task: Callable[[], None]) -> None:
        """Do this after all that was given before."""
        with self._done:
            self._left += 1
        self._tasks.put(task)

    def _settle(self) -> None:
        with self._done:
            self._done.wait_for(lambda: self._left == 0 or not self._thread.is_alive())

    def wait(self) -> None:
        """Return when all is done, or raise what went wrong."""
        self._settle()
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._left:
            raise RuntimeError(
                "the thread that steps in the backward pass has ended, as threads do at a fork; "
                "call remove() and in_backward again in the new process"
            )

    def drain(self) -> None:
        """Return when all is done, with its error forgotten; at once in a task itself."""
        if threading.current_thread() is not self._thread:
            self._settle()
            self._error = None

    def end(self) -> None:
        """Let the thread end after what is left to do."""
        self._tasks.put(None)

    def stop(self) -> None:
        """End the thread."""
        self.end()
        self._thread.join()
