"""Meetings of ranks: what one of them raises is raised by all, at the same place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stepsize.arrays import Array
from stepsize.collectives.communicator import Communicator, MPICommunicator
from stepsize.collectives.digests import digest
from stepsize.validation import words_of

ARITHMETIC = (FloatingPointError, OverflowError)  # what a run may take for divergence


class RankError(RuntimeError):
    """Another rank has failed, or the ranks do not do the same; the message names it."""


class _Word(NamedTuple):
    """What a rank brings to a meeting."""

    place: str
    failure: str
    arithmetic: bool
    value: Any


class Team:
    """The ranks of a run, as one of them sees the others.

    Every message of arrays follows a meeting, so that ranks that have come apart are told so
    instead of waiting for each other.

    Args:
        comm: what carries the messages.

    Example:
        >>> from stepsize.collectives import LocalComm, Team
        >>> LocalComm.run(2, lambda comm: Team(comm).meet("here", 10 * comm.rank))
        [[0, 10], [0, 10]]
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.rank, self.size = int(comm.rank), int(comm.size)
        self.told: BaseException | None = None  # the last error that all ranks know of

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes the files."""
        return self.rank == 0

    def meet(self, place: str, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """The values of all ranks, once all are at this place.

        Raises:
            RankError: Another rank came with an error, or to another place.
        """
        failure = "" if error is None else words_of(error)
        word = _Word(place, failure, isinstance(error, ARITHMETIC), value)
        words = [_Word(*found) for found in self.comm.allgather(tuple(word))]
        self.told = self._trouble(words) if error is None else error
        if self.told is not None:
            raise self.told
        return [word.value for word in words]

    def _trouble(self, words: Sequence[_Word]) -> Exception | None:
        """What the words of the others mean for this rank, if they mean that it cannot go on."""
        failed = [rank for rank, word in enumerate(words) if word.failure]
        if failed:
            told = "; ".join(f"rank {r} of {self.size}: {words[r].failure}" for r in failed)
            if all(words[r].arithmetic for r in failed):
                return FloatingPointError(told)
            return RankError(f"another rank failed, so this one stops too: {told}")
        places = [word.place for word in words]
        if len(set(places)) > 1:
            told = ", ".join(f"rank {rank} at {name!r}" for rank, name in enumerate(places))
            return RankError(
                f"the ranks are at different places: {told}; let every rank make the same calls in "
                "the same order, also of callbacks"
            )
        return None

    @contextlib.contextmanager
    def together(self, place: str) -> Iterator[None]:
        """A block that all ranks leave alike: what is raised in it on one is raised by all."""
        try:
            yield
        except Exception as error:
            if error is not self.told:
                self.meet(place, error=error)
            raise
        self.meet(place)

    def from_first(self, place: str, function: Callable[[], Any]) -> Any:
        """What a function returns on rank 0, which alone calls it, on all ranks."""
        value = None
        if self.leads:
            try:
                value = function()
            except Exception as error:
                self.meet(place, error=error)
                raise
        return self.meet(place, value)[0]

    def agree(self, place: str, what: str, value: Any) -> None:
        """Refuse a value that is not the same on all ranks.

        Raises:
            ValueError: on every rank, naming two that differ.
        """
        found = self.meet(place, value)
        other = next((rank for rank, one in enumerate(found) if one != found[0]), None)
        if other is not None:
            raise ValueError(
                f"{place}: {what} must be the same on all ranks, but is {found[0]!s:.120} on rank "
                f"0 and {found[other]!s:.120} on rank {other}"
            )

    def alike(
        self, place: str, values: Mapping[str, Any], kind: type[Exception] = RankError
    ) -> None:
        """Refuse named values of which one is not the same on all ranks.

        Raises:
            RankError: or what is asked for, on every rank, naming what differs, and two values.
        """
        found = self.meet(place, {name: repr(value) for name, value in values.items()})
        for name, here in found[0].items():
            rank = next((r for r, one in enumerate(found) if one.get(name) != here), None)
            if rank is not None:
                raise kind(
                    f"{place}: {name} must be the same on all ranks, but is {here:.120} on rank 0 "
                    f"and {found[rank].get(name)!s:.120} on rank {rank}; set it on all ranks "
                    "alike, also in callbacks"
                )

    def meet_alike(
        self,
        place: str,
        value: Any,
        values: Mapping[str, Any],
        what: str,
        error: BaseException | None = None,
    ) -> list[Any]:
        """`meet`, along with a checksum of named values that must be the same on all ranks.

        Where it is not, a second meeting, of all ranks, finds out which of them.

        Raises:
            RankError: as `meet` and, at ``what``, as `alike`.
        """
        found = self.meet(place, (value, digest(values)), error)
        if len({tag for _, tag in found}) > 1:
            self.alike(what, values)
        return [one for one, _ in found]

    def exchange(self, send: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """As `Communicator.exchange`."""
        return self.comm.exchange(send, counts)

    def collect(self, part: Array, counts: Sequence[int]) -> Callable[[], Array]:
        """As `Communicator.collect`."""
        return self.comm.collect(part, counts)


def team_of(owner: str, comm: Any) -> Team:
    """The team of a communicator: ours, or one of mpi4py.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(comm, Team):
        return comm
    if all(hasattr(comm, name) for name in ("rank", "size", "allgather", "exchange", "collect")):
        return Team(comm)
    if hasattr(comm, "Get_rank") and hasattr(comm, "Ialltoallv"):
        return Team(MPICommunicator(comm))
    raise TypeError(
        f"{owner}: comm must be a communicator, such as mpi4py.MPI.COMM_WORLD or the one that "
        f"stepsize.interop.mpi.LocalComm.run gives, got {comm!r:.80}"
    )
