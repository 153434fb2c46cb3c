"""Ranks as threads of one process, one of which runs at a time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from stepsize.arrays import Array
from stepsize.validation import whole

T = TypeVar("T")


_MISSING = object()


class _Gone(BaseException):
    """Ends a rank whose meeting another rank will not come to."""


class _Room:
    """Where the ranks of one run meet. They take turns, so that a run is the same every time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.turn = 0
        self.rounds: dict[int, list[Any]] = {}  # what was given, until all have taken it
        self.made = [0] * size
        self.over = [False] * size
        self.left = ""
        self.moved = threading.Condition()

    def await_turn(self, rank: int) -> None:
        self.moved.wait_for(lambda: self.turn == rank)

    def pass_on(self, rank: int) -> None:
        """Let the next rank run that has not ended."""
        for step in range(1, self.size + 1):
            following = (rank + step) % self.size
            if not self.over[following]:
                self.turn = following
                break
        self.moved.notify_all()

    def meet(self, rank: int, value: Any) -> list[Any]:
        with self.moved:
            number = self.made[rank]
            self.made[rank] += 1
            given = self.rounds.setdefault(number, [_MISSING] * self.size)
            given[rank] = value
            self.pass_on(rank)
            self.await_turn(rank)
            # When the turn is back, all that have not ended have given.
            for other, found in enumerate(given):
                if found is _MISSING:
                    raise _Gone(f"rank {other} has ended{self.left} while rank {rank} waits for it")
            if min(self.made) > number:
                self.rounds.pop(number - 1, None)
            return list(given)

    def end(self, rank: int, failed: bool) -> None:
        with self.moved:
            self.over[rank] = True
            if failed and not self.left:
                self.left = " with an error"
            self.pass_on(rank)


class LocalComm:
    """A communicator whose ranks are threads of this process: all that MPI does here, without MPI.

    The ranks take turns, from one meeting to the next, in the order of their numbers. So a run is
    the same every time, and no faster than one rank after the other: it is for tests, for learning,
    and for repeating what a cluster did. `run` makes the ranks.

    Example:
        >>> from stepsize.interop.mpi import LocalComm
        >>> LocalComm.run(3, lambda comm: comm.allgather(comm.rank ** 2))
        [[0, 1, 4], [0, 1, 4], [0, 1, 4]]
    """

    def __init__(self, room: _Room, rank: int) -> None:
        self._room = room
        self.rank = rank
        self.size = room.size

    def __repr__(self) -> str:
        return f"<LocalComm, rank {self.rank} of {self.size}>"

    @staticmethod
    def run(size: int, function: Callable[[LocalComm], T]) -> list[T]:
        """Call ``function(comm)`` on so many ranks, and return what each returned.

        Args:
            size: how many ranks.
            function: the program of one rank.

        Raises:
            Exception: that of the lowest rank that failed by itself.
            RuntimeError: a rank ended while another one waited for it.
        """
        room = _Room(whole("LocalComm.run: size", size))
        results: list[Any] = [None] * room.size
        errors: list[BaseException | None] = [None] * room.size

        def rank_main(rank: int) -> None:
            with room.moved:
                room.await_turn(rank)
            try:
                results[rank] = function(LocalComm(room, rank))
            except BaseException as error:
                errors[rank] = error
            finally:
                room.end(rank, errors[rank] is not None)

        threads = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(rank_main, rank), daemon=True
            )
            for rank in range(room.size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own = [error for error in errors if error is not None and not isinstance(error, _Gone)]
        if own:
            # One that only heard of a failure says less than the failure.
            raise next((e for e in own if type(e).__name__ != "RankError"), own[0])
        gone = next((error for error in errors if error is not None), None)
        if gone is not None:
            raise RuntimeError(
                f"LocalComm.run: {gone}; let every rank make the same calls in the same order"
            )
        return results

    def allgather(self, value: Any) -> list[Any]:
        """The values of all ranks, in the order of the ranks."""
        return self._room.meet(self.rank, value)

    def exchange(self, send: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """Send ``counts[r]`` numbers to each rank r; what comes is a row for each rank."""
        ends = np.cumsum(counts)
        given = self.allgather(send.copy())
        first, last = int(ends[self.rank]) - counts[self.rank], int(ends[self.rank])
        received = np.array([array[first:last] for array in given])
        return lambda: received

    def collect(self, part: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """The parts of all ranks, one after the other."""
        received = np.concatenate(self.allgather(part.copy()))
        return lambda: received
