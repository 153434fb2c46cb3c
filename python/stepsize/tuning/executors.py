"""Where runs are computed: this process, a pool of own processes, or any executor."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

from stepsize.tuning.pools import Pool, shut_down
from stepsize.validation import whole

POLL = 1.0  # seconds after which a wait looks whether it was interrupted
MOMENT = 3.0  # seconds without a worker that are said
ASK_AGAIN = 2.0  # seconds between two questions of how many workers a cluster has

HOW = (
    "an executor is None for this process, a number of processes, anything with submit() such as "
    "a concurrent.futures.Executor, or a function that makes one"
)
MOST_PROCESSES = 4096


class Workers:
    """An executor, what is known of it, and how to make it anew where it broke.

    `threads` is how many a worker in another process may use, None for its share of the machine.
    """

    def __init__(self, label: str, executor: Any, threads: int | None) -> None:
        self._make: Callable[[], Any] | None = None
        self._label, self._executor, self.generation = label, executor, 0
        self._asked, self._width = -ASK_AGAIN, 1
        self._none_since, self._said = math.inf, False
        self.threads = threads
        if isinstance(executor, type):
            self._make = executor
        elif _is_count(executor):
            count = whole(f"{label}: executor", executor, most=MOST_PROCESSES, move=HOW)
            self.threads = max(1, processors() // count) if threads is None else threads
            self._make = partial(Pool, count, self.threads)
        elif hasattr(executor, "get_executor"):  # a Client of Dask; pure calls would be made once
            self._executor = executor.get_executor(pure=False)
        elif not hasattr(executor, "submit"):
            if not callable(executor):
                raise TypeError(f"{label}: executor={executor!r:.80} cannot run anything; {HOW}")
            self._make = executor

    def start(self, objective: Any, *sent: Any) -> None:
        """Send what the workers need once, and see where it arrives; TypeError if it cannot."""
        if self._make is not None:
            self._executor = self._make()
            if not hasattr(self._executor, "submit"):
                made = self._executor
                raise TypeError(f"{self._label}: executor() made {made!r:.80}; {HOW}")
        try:
            future = self._executor.submit(_where, objective, *sent)
        except RuntimeError as error:  # which says nothing of what was sent
            self.close(kill=True)
            raise RuntimeError(
                f"{self._label}: the executor takes no calls ({error}); give one that is open, or "
                "a function that makes one"
            ) from error
        except Exception as error:  # of one that sends in the call, as Dask does
            self.close(kill=True)
            raise self._refusal(objective, error) from error
        try:
            self._wait(future)
            host, process = future.result()
        except Exception as error:
            self.close(kill=True)
            raise self._refusal(objective, error) from error
        own = host == socket.gethostname()
        if own and process == os.getpid():
            if self.threads is not None:
                raise ValueError(
                    f"{self._label}: threads={self.threads} is for workers in other processes; "
                    "those of this process share the count of ss.set_num_threads"
                )
        elif self.threads is None:
            self.threads = max(1, processors() // self.width) if own else 1

    def _wait(self, future: Any) -> None:
        """Wait for the first answer, and say where nobody is there to give it."""
        if not hasattr(future, "add_done_callback"):
            return
        came = threading.Event()
        future.add_done_callback(lambda _: came.set())
        while not came.wait(POLL):
            self.say_if_none()

    def say_if_none(self) -> None:
        """Warn, once, where a Dask cluster has had no workers for a moment: no run begins then."""
        client: Any = getattr(self._executor, "_client", None)
        if self._said or not hasattr(client, "nthreads"):
            return
        now = time.monotonic()
        try:
            if client.nthreads():
                self._none_since = math.inf
                return
            address = client.scheduler.address
        except Exception:  # of a scheduler that is gone, which its futures tell
            return
        self._none_since = min(self._none_since, now)
        if now - self._none_since >= MOMENT:
            self._said = True
            warnings.warn(
                f"{self._label}: the Dask cluster at {address} has no workers, so no run begins; "
                f"start some, dask worker {address}, and the search goes on",
                RuntimeWarning,
                stacklevel=6,
            )

    def try_to_send(self, *sent: Any) -> None:
        """Refuse what cannot be sent to a pool of processes, such as a lambda, before it starts."""
        if not (_is_count(self._executor) or isinstance(self._executor, ProcessPoolExecutor)):
            return
        try:
            for one in sent:
                ForkingPickler.dumps(one)
        except Exception as error:
            raise self._refusal(sent[0], error) from error

    def _refusal(self, objective: Any, error: BaseException) -> TypeError:
        broke = isinstance(error, BrokenExecutor | RuntimeError)
        told = " ".join(str(error).split())
        guard = ' and start the search under if __name__ == "__main__":' if broke else ""
        return TypeError(
            f"{self._label}: objective {objective!r:.80} cannot be sent to another process "
            f"({type(error).__name__}: {told:.80}); define it with def at the top of a module "
            f"that the workers can import{guard}, take an executor that sends functions by value "
            "(loky, Dask), or take a ThreadPoolExecutor"
        )

    @property
    def width(self) -> int:
        """How many runs it computes at once; a cluster is asked again as it grows."""
        now = time.monotonic()
        if now - self._asked >= ASK_AGAIN:
            self._asked, self._width = now, max(1, _width(self._executor))
        return self._width

    def submit(self, function: Callable[..., Any], *given: Any) -> Any:
        """A future of the call."""
        future = self._executor.submit(function, *given)
        if not hasattr(future, "add_done_callback"):
            raise TypeError(
                f"{self._label}: executor.submit() gave {future!r:.80}, which is no future: it has "
                "no add_done_callback()"
            )
        return future

    def renew(self, generation: int) -> bool:
        """Make the executor anew if it is still the one that broke; False where that cannot be."""
        if self._make is None:
            return False
        if generation == self.generation:
            self.close(kill=True)
            self._executor, self.generation = self._make(), self.generation + 1
            self._asked = -ASK_AGAIN
        return True

    def close(self, kill: bool = False) -> None:
        """Shut down what was made here, with its processes where the search was interrupted."""
        if self._make is not None and hasattr(self._executor, "shutdown"):
            shut_down(self._label, self._executor, kill)


def _is_count(executor: Any) -> bool:
    return not (hasattr(executor, "submit") or callable(executor) or isinstance(executor, str))


def processors() -> int:
    """How many processors this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _where(*sent: Any) -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _width(executor: Any) -> int:
    client = getattr(executor, "_client", None)  # of Dask's executor, which does not tell
    if client is not None and hasattr(client, "nthreads"):
        return sum(client.nthreads().values())
    for name in ("num_workers", "_max_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return os.cpu_count() or 1
