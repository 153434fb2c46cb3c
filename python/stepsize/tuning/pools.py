"""Pools of processes: begun with a share of the threads, and ended whatever their runs left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any

from stepsize import _core

GRACE = 10.0  # seconds that what a run left in its worker has to end by itself
PATIENCE = 1.0  # seconds between two ways to end a process, each ruder than the one before


class Pool(ProcessPoolExecutor):
    """Processes started by spawn, which end with this one, each with those that it started."""

    def __init__(self, count: int, threads: int) -> None:
        context = get_context("spawn")
        self._heard, self._tells = context.Pipe(duplex=False)
        super().__init__(count, context, _begin, (threads, self._heard, GRACE))

    def end(self) -> None:
        """End the processes in the midst of their runs."""
        with contextlib.suppress(OSError):
            self._tells.send(None)  # which nobody takes out, so that all of them see it


def shut_down(label: str, executor: Any, kill: bool) -> None:
    """Shut an executor down; its processes are ended at once, or where they do not end.

    A process ends after the threads in it that are no daemons, and the children that it started by
    multiprocessing: where a run left one that goes on they are waited for, then a warning says so.
    """
    processes = list((getattr(executor, "_processes", None) or {}).values())
    if not processes:
        executor.shutdown(wait=not kill)
        return
    began = time.monotonic()
    # A thread, since nothing else bounds the wait; the pool ends it with the last process.
    closing = threading.Thread(target=executor.shutdown, daemon=True)
    closing.start()
    if not kill:
        closing.join(GRACE + PATIENCE)
    elif hasattr(executor, "end"):
        executor.end()
        closing.join(PATIENCE)
    for way in ("terminate", "kill"):
        if closing.is_alive():
            for process in processes:
                with contextlib.suppress(OSError, ValueError, AttributeError):  # it has ended
                    getattr(process, way)()
            closing.join(PATIENCE)
    if not kill and time.monotonic() - began >= GRACE:
        warnings.warn(
            f"{label}: all runs are done, but a worker did not end in {GRACE:g} s and was ended: "
            "a run left a thread or a process in it that goes on; join it in the run, or make it "
            "a daemon",
            RuntimeWarning,
            stacklevel=6,
        )


def _begin(threads: int, heard: Any, grace: float) -> None:
    """Start a worker of an own pool: its threads are limited, Ctrl-C is left to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, args=(heard,), daemon=True).start()
    Finalize(None, _leave, (grace,), exitpriority=100)  # before it waits for what is left
    limit(threads)
    import numpy  # noqa: F401  so that its BLAS is there to be limited

    try:
        import threadpoolctl
    except ImportError:  # BLAS then uses what OMP_NUM_THREADS and the like say
        return
    threadpoolctl.threadpool_limits(threads)


def _end_with_driver(heard: Any) -> None:
    """End this process when its driver says so or is gone, killed as it may be."""
    driver = parent_process()
    if driver is not None:
        wait([driver.sentinel, heard])
        _end(1)


def _leave(grace: float) -> None:
    """Let what the runs left in this process end, for a while."""
    threads = [t for t in threading.enumerate() if not t.daemon]
    if len(threads) > 1 or active_children():
        timer = threading.Timer(grace, _end, (0,))
        timer.daemon = True
        timer.start()


def _end(code: int) -> None:
    for child in active_children():
        child.kill()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def limit(threads: int | None) -> None:
    """Limit the threads of this process, which the results do not depend on."""
    if threads is not None:
        _core.set_thread_count(threads)
