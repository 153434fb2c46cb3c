"""Following a file that grows: only what is new is read, and a file that was replaced from anew."""

from __future__ import annotations

import csv
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stepsize.watching.series import RunLog

__all__ = ["Follower"]

CHUNK = 1 << 20
LONGEST_LINE = 4 << 20  # what goes on longer without an end of line is passed over
CHECKED = 64  # bytes before the place reached that must still be there


class Follower:
    """Reads the log of a run as it grows: lines of JSON, or CSV with a header.

    A last line without its end is left for the next reading; a line that is no event is counted
    and passed over. A file that was replaced, or cut and written again, is read from its start, as
    `generation` tells; one that is not there yet is waited for.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.generation = 0
        self._restart()

    def _restart(self) -> None:
        self.log = RunLog()
        self.generation += 1
        self.offset = self.size = 0
        self.present = False
        self.changed: float | None = None  # when the file last changed
        self.lines, self.bad, self.first_bad = 0, 0, 0
        self._identity: tuple[int, int] | None = None
        self._rest, self._passing = b"", False
        self._before = b""
        self._header: list[str] | None = None

    @property
    def behind(self) -> bool:
        """Whether there is more to read."""
        return self.offset + len(self._rest) < self.size

    def read(self, seconds: float = 0.5) -> None:
        """Read what is new, for about so many seconds."""
        until = time.monotonic() + seconds
        try:
            # A pipe would be waited for, and a device has no end.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise OSError("it is not a regular file")
            with open(self.path, "rb") as file:
                self._find_place(file)
                while (chunk := file.read(CHUNK)) and self._take(chunk):
                    if time.monotonic() >= until:
                        break
        except FileNotFoundError:
            if self.present:
                self._restart()

    def _find_place(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        identity = (found.st_dev, found.st_ino)
        reached = self.offset + len(self._rest)
        anew = self._identity not in (None, identity) or found.st_size < reached
        if not anew and self._before:  # cut and written again beyond the place reached
            file.seek(reached - len(self._before))
            anew = file.read(len(self._before)) != self._before
        if anew:
            self._restart()
            reached = 0
        self.present, self._identity = True, identity
        self.size, self.changed = found.st_size, found.st_mtime
        file.seek(reached)

    def _take(self, chunk: bytes) -> bool:
        """Take whole lines; what is left over waits."""
        self._before = (self._before + chunk)[-CHECKED:]
        *lines, rest = (self._rest + chunk).split(b"\n")
        self.offset += len(self._rest) + len(chunk) - len(rest)
        for line in lines:
            self.lines += 1
            if self._passing:
                self._passing = False
            elif line.strip() and not self._line(line):
                self.bad += 1
                self.first_bad = self.first_bad or self.lines
        if len(rest) > LONGEST_LINE:
            self.offset += len(rest)
            self.bad += not self._passing
            self.first_bad = self.first_bad or self.lines + 1
            rest, self._passing = b"", True
        self._rest = rest
        return True

    def _line(self, line: bytes) -> bool:
        try:
            text = line.decode("utf-8-sig" if self.lines == 1 else "utf-8")
            if self.lines == 1 and self._is_header(text):
                return True
            event = json.loads(text) if self._header is None else self._cells(text)
        except (ValueError, RecursionError, csv.Error):
            return False
        return isinstance(event, dict) and self.log.take(event)

    def _is_header(self, text: str) -> bool:
        """Whether a first line names the columns of a CSV, which are then known."""
        names = next(csv.reader([text]))
        if "step" in names:
            self._header = names
        return self._header is not None

    def _cells(self, text: str) -> Mapping[str, Any]:
        pairs = zip(self._header or (), next(csv.reader([text])), strict=True)
        return {name: float(cell) for name, cell in pairs if cell.strip()}
