"""Following a file that grows: only what is new is read, and a file that was replaced from anew."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stepsize.validation import counted
from stepsize.watching.foreign import DELIMITERS, HEAD, no_log, no_text
from stepsize.watching.series import EVENTS, RunLog

__all__ = ["Follower"]

CHUNK = 1 << 20
LONGEST_LINE = 4 << 20  # what goes on longer without an end of line is passed over
CHECKED = 64  # bytes before the place reached that must still be there
FIRST = 3  # lines by which a file that holds no event is judged
SHORT = 60  # signs of a cell that is told
NUMBER_LIKE = re.compile(r"[-+]?[\d.,' ]*\d[\d.,' ]*(e[-+]?\d+)?\s*%?", re.IGNORECASE)


class Follower:
    """Reads the log of a run as it grows: lines of JSON, or CSV with a header.

    A last line without its end is left for the next reading; a line that is no event is counted
    and passed over. A file that was replaced, or cut and written again, is read from its start, as
    `generation` tells; one that is not there yet is waited for. What cannot be a log of a run is
    told in `foreign`, and what else one should know of the lines in `notes`.
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
        self._delimiter = ","
        self._no_text, self._first = "", list[str]()  # why there are no lines; the first of them
        self._why = ""  # what is wrong with the first bad line
        self._other_encoding = 0  # the first line that is not in UTF-8
        self._no_numbers: dict[str, str] = {}  # cells that look like numbers, by column

    @property
    def foreign(self) -> str:
        """Why this file is no log of a run, with the next move; empty where it may be one."""
        if self._no_text or self.log.events or self._header:
            return self._no_text
        first = self._first or [self._rest[:HEAD].decode(errors="replace")]
        return no_log(first)

    @property
    def notes(self) -> list[str]:
        """What one should know of the lines, such as which could not be read, and why."""
        notes = []
        if self.bad:
            lines = "line" if self.bad == 1 else "lines"
            why = f" ({self._why})" if self._why else ""
            notes.append(
                f"{self.bad:,} {lines} could not be read, the first is {self.first_bad:,}{why}"
            )
        notes += [f"{cell} is no number" for cell in self._no_numbers.values()]
        if self._other_encoding:
            notes.append(
                f"line {self._other_encoding:,} is not in UTF-8 and was read as Windows-1252"
            )
        if self.log.back is not None:
            line, before, after = self.log.back
            notes.append(
                f"in line {line:,} the steps go back from {before:g} to {after:g}: what was there "
                "from that step on is left out; give each run a file of its own"
            )
        if self._rest and not self.lines:
            notes.append("the first line has no end yet; events are read when they are whole")
        return notes

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
                if self._is_no_text(file):
                    return
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

    def _is_no_text(self, file: BinaryIO) -> bool:
        """Whether the file shows by its first bytes that it holds no lines of text."""
        if not self.lines and not self._passing:
            place = file.tell()
            file.seek(0)
            self._no_text = no_text(file.read(HEAD), self.path)
            file.seek(place)
        return bool(self._no_text)

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
        """Take a line; False for what is no event, of which the first reason is kept."""
        try:
            text = self._decoded(line)
            if len(self._first) < FIRST:
                self._first.append(text[:HEAD])
            if text.lstrip().startswith("#") or self._is_header(text):
                return True
            event = json.loads(text) if self._header is None else self._cells(text)
        except json.JSONDecodeError:
            return self._fault("it is no JSON")
        except (ValueError, RecursionError, csv.Error) as error:
            return self._fault(str(error) if isinstance(error, _LineError) else "it is no event")
        if not isinstance(event, dict):
            return self._fault("it is no object with names")
        self.log.line = self.lines
        return self.log.take(event) or self._fault(_refused(event))

    def _decoded(self, line: bytes) -> str:
        try:
            return line.decode("utf-8-sig" if self.lines == 1 else "utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", errors="replace")
            self._other_encoding = self._other_encoding or self.lines
            return text

    def _fault(self, why: str) -> bool:
        self._why = self._why or why
        return False

    def _is_header(self, text: str) -> bool:
        """Whether a line before all rows names the columns of a CSV, which are then known."""
        if self._header is not None or self.log.events or text.lstrip()[:1] in ("{", "["):
            return False
        for mark in DELIMITERS:
            names = [name.strip() for name in next(csv.reader([text], delimiter=mark), [])]
            if "step" in names:
                self._header, self._delimiter = names, mark
        return self._header is not None

    def _cells(self, text: str) -> Mapping[str, Any]:
        """The numbers of a row; words are passed over, and so is what only looks like a number."""
        names, cells = self._header or [], next(csv.reader([text], delimiter=self._delimiter))
        if len(names) != len(cells):
            raise _LineError(f"it holds {counted(len(cells), 'cell')} under {len(names)} names")
        numbers = {}
        for name, cell in zip(names, cells, strict=True):
            try:
                if cell.strip():
                    numbers[name] = float(cell)
            except ValueError:
                if NUMBER_LIKE.fullmatch(cell.strip()):
                    told = (
                        f"{cell.strip()[:SHORT]!r} in line {self.lines:,}, column {name[:SHORT]},"
                    )
                    self._no_numbers.setdefault(name, told)
        return numbers


class _LineError(ValueError):
    """What is wrong with a line, in words."""


def _refused(event: Mapping[str, Any]) -> str:
    if "step" not in event:
        return "it has no step"
    kind = event.get("event", "step")
    known = isinstance(kind, str) and kind in EVENTS
    return "its step is no finite number" if known else f"its event is {str(kind)[:SHORT]!r}"
