"""A file that one search adds to while others may delete it, replace it or write to it."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NoReturn

from stepsize.tuning.locks import locked, unlocked


class Guarded:
    """An append-only file, locked until `close`, that loses nothing and never writes to another's.

    Each time the file is looked at before anything is added. One that was deleted or emptied is
    written again, whole, with a warning; a copy of it in its place is gone on with; where anything
    else is there it is left as it is, and all lines go to a new file beside it, which the error
    names.

    Args:
        path: the file, made where there is none.
        label: who asks, for messages.
        lines: makes all that the file is to hold, with what is being added.

    Raises:
        RuntimeError: Another search is writing to it.
    """

    def __init__(self, path: Path, label: str, lines: Callable[[], Iterable[bytes]]) -> None:
        self.path, self.length = path, 0  # in bytes, and
        self.cut = 0  # those of a last line that was cut short, which the first new one replaces
        self._label, self._lines, self._given_up = label, lines, False
        self._begun = False  # whether this search has written to it
        self._lock = path.open("ab")
        if not locked(self._lock.fileno()):
            self._lock.close()
            raise RuntimeError(
                f"{label}: another search is writing to {path}; wait for its end or give "
                "another file"
            )

    def append(self, data: bytes) -> None:
        """Add some lines."""
        try:
            with self._opened() as stream:
                if self._is_ours(stream):
                    if self.cut:
                        os.truncate(self.path, self.length)
                    stream.write(data)
                    self.length += len(data)
                else:
                    self.length = self._renew(stream, data)
                self._begun, self.cut = True, 0
        except OSError:
            self._given_up = True
            raise

    def close(self) -> None:
        """Take the lock off, after a last look at what is there."""
        try:
            if (self._begun or self.length) and not self._given_up:
                with self._opened() as stream:
                    if not self._is_ours(stream):
                        self._renew(stream, b"")
        finally:
            self._unlock()

    def _opened(self) -> IO[bytes]:
        try:
            return self.path.open("ab")
        except FileNotFoundError:  # its folder was deleted too
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self.path.open("ab")
        except OSError as error:
            self._give_up(f"cannot be written any more ({error.strerror})", error)

    def _is_ours(self, stream: IO[bytes]) -> bool:
        now = os.fstat(stream.fileno())
        same = os.path.samestat(now, os.fstat(self._lock.fileno()))
        return same and now.st_size == self.length + self.cut

    def _renew(self, stream: IO[bytes], data: bytes) -> int:
        """Go on with what took the place of the file, if nobody loses by it; its length then."""
        other = not os.path.samestat(os.fstat(stream.fileno()), os.fstat(self._lock.fileno()))
        if other:
            self._unlock()
            self._lock = self.path.open("ab")
            if not locked(self._lock.fileno()):
                self._give_up("was replaced by one that another search is writing to")
        whole = b"".join(self._lines())
        if not stream.tell():
            stream.write(whole)
            warnings.warn(
                f"{self._label}: {self.path} was deleted or emptied while the search was writing "
                "to it, and has been written again with all runs so far",
                RuntimeWarning,
                stacklevel=2,
            )
        elif other and self.path.read_bytes() == whole[: len(whole) - len(data)]:
            stream.write(data)
        else:
            told = "replaced by another file" if other else "changed by another program"
            self._give_up(f"was {told} while the search was writing to it, and is left as it is")
        return len(whole)

    def _give_up(self, why: str, error: OSError | None = None) -> NoReturn:
        """End the search with all its lines in a file beside the one that is lost to it."""
        self._given_up = True
        numbers = itertools.count(1)
        while True:
            beside = self.path.with_name(f"{self.path.name}.kept-{next(numbers)}")
            try:
                with beside.open("xb") as stream:
                    stream.writelines(self._lines())
            except FileExistsError:
                continue
            raise RuntimeError(
                f"{self._label}: {self.path} {why}; all runs so far are in {beside}, so give that "
                "as the storage to go on"
            ) from error

    def _unlock(self) -> None:
        if not self._lock.closed:
            unlocked(self._lock.fileno())
            self._lock.close()
