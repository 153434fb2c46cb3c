"""The same work in two threads that begin together."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_two_threads(work: Callable[[], None]) -> list[BaseException]:
    """Do the work in both, and return what they raised."""
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def begin() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=begin) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return errors
