"""What is asked of a communicator, and that of mpi4py in its terms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from stepsize.arrays import Array
from stepsize.collectives.messages import packed, unpacked

EAGER = 200  # looks at a message without a pause, and
SHORT = 1024  # bytes of a first message, in which most values have room
PAUSE = 1e-4  # seconds between the looks after them: ranks may share a core


class Communicator(Protocol):
    """A group of ranks that call the same methods in the same order.

    Arrays are flat and contiguous, and every rank knows all counts. What starts a message returns a
    function that waits for it, so that several can be under way.
    """

    @property
    def rank(self) -> int:
        """The number of this rank, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def allgather(self, value: Any) -> list[Any]:
        """The small values of all ranks, in the order of the ranks."""

    def exchange(self, send: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """Send ``counts[r]`` numbers to each rank r; what comes is a row for each rank."""

    def collect(self, part: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """The parts of all ranks, of ``counts[r]`` numbers, one after the other."""


class MPICommunicator:
    """A communicator of mpi4py as a `Communicator`.

    Messages are bytes, and nothing is added up on the way: the order of sums is not left to the
    library. While it waits, Ctrl-C is heard.

    Args:
        comm: such as ``mpi4py.MPI.COMM_WORLD``.
    """

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())

    def allgather(self, value: Any) -> list[Any]:
        """As `Communicator.allgather`."""
        # Not allgather of mpi4py, which spins in C: ranks may share a core, and hear Ctrl-C.
        text = packed(value)
        first = np.zeros(SHORT, np.uint8)
        first[:8] = np.array([len(text)], np.int64).view(np.uint8)
        first[8 : 8 + len(text)] = text[: SHORT - 8]
        heads = np.empty((self.size, SHORT), np.uint8)
        _waiting(self.comm.Iallgather(first, heads), heads, first)()
        lengths = heads[:, :8].copy().view(np.int64)[:, 0].tolist()
        if max(lengths) <= SHORT - 8:
            texts = [head[8 : 8 + n] for head, n in zip(heads, lengths, strict=True)]
        else:
            whole = self.collect(text, lengths)()
            texts = np.split(whole, np.cumsum(lengths)[:-1])
        return [unpacked(text) for text in texts]

    def exchange(self, send: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """As `Communicator.exchange`."""
        own = counts[self.rank]
        received = np.empty((self.size, own), send.dtype)
        request = self.comm.Ialltoallv(
            _bytes_of(send, counts), _bytes_of(received, [own] * self.size)
        )
        return _waiting(request, received, send)

    def collect(self, part: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """As `Communicator.collect`."""
        received = np.empty(sum(counts), part.dtype)
        request = self.comm.Iallgatherv(_bytes_of(part), _bytes_of(received, counts))
        return _waiting(request, received, part)


def _bytes_of(array: Array, counts: Sequence[int] | None = None) -> Any:
    """A message of mpi4py."""
    flat = array.reshape(-1).view(np.uint8)
    if counts is None:
        return flat
    sizes = np.array(counts, np.int64) * array.itemsize
    return [flat, (sizes, np.cumsum(sizes) - sizes)]


def _waiting(request: Any, received: Array, sent: Array) -> Callable[[], Array]:
    """A function that waits for a message; the memory of both ends lives as long."""
    held = [sent]

    def wait() -> Array:
        looks = 0
        while not request.Test():
            looks += 1
            time.sleep(0 if looks < EAGER else PAUSE)
        held.clear()
        return received

    return wait
