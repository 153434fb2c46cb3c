"""The file that keeps the runs of a search: one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stepsize.tuning.guarded import Guarded
from stepsize.tuning.origin import Origin
from stepsize.tuning.space import Choice, Places, Space, decoded, described, ends
from stepsize.tuning.trials import TrialRecord
from stepsize.validation import file_path

HEAD = b'{"stepsize": "search"'  # what the first line of a file begins with


class Store(Protocol):
    """Keeps records, whose values are as the objective returned them."""

    def read(self) -> list[TrialRecord]: ...

    def append(self, record: TrialRecord) -> None: ...

    def close(self) -> None: ...


class Nowhere:
    """Keeps nothing."""

    def read(self) -> list[TrialRecord]:
        return []

    def append(self, record: TrialRecord) -> None:
        pass

    def close(self) -> None:
        pass


class JsonLines:
    """A file of one JSON object per line, after a first line that says what search it is of.

    Only what was found to be a search is ever written to: a last line that was cut short, by a
    kill in the midst of it, is taken off before the first run is added. Files of before have no
    first line of this kind. Until `close` no other search may take it; see `Guarded` for what
    happens where it is deleted or replaced meanwhile.
    """

    def __init__(self, path: Any, space: Space, origin: Origin) -> None:
        label = origin.label
        path = Path(file_path(f"{label}: storage", path))
        self._space, self._places, self._origin = space, Places(space), origin
        self._places.check(label)
        self._head = b""  # the first line, where there is one
        self._known: list[TrialRecord] = []  # what the file holds
        self._open_line = b""  # a last line that is whole but for its end
        # A path that cannot be written fails before anything has run.
        self._file = Guarded(path, label, self._lines)

    def close(self) -> None:
        self._file.close()

    def append(self, record: TrialRecord) -> None:
        if not self._head and not self._known:
            self._head = _line({"stepsize": "search", **self._origin.kept()})
        self._known.append(record)
        first = b"" if len(self._known) > 1 or self._file.length else self._head
        try:
            self._file.append(self._open_line + first + self._coded(record))
            self._open_line = b""
        except OSError as error:  # such as that of a disk without room
            error.add_note(
                f"{self._origin.label}: run {record.number} could not be kept in "
                f"{self._file.path}, which holds those before it; make room, and the same call "
                "goes on from there"
            )
            raise

    def _lines(self) -> Iterator[bytes]:
        """All that the file is to hold."""
        yield self._head
        yield from map(self._coded, self._known)

    def _coded(self, record: TrialRecord) -> bytes:
        kept: dict[str, Any] = {**vars(record), "point": self._places.coded(record.point)}
        # The places of options may be others when the file is read.
        kept["options"] = self._places.options(record.point)
        return _line(kept)

    def read(self) -> list[TrialRecord]:
        whole, end, rest = self._file.path.read_bytes().rpartition(b"\n")
        lines, first = whole.split(b"\n") if end else [], 1
        if lines and lines[0].startswith(HEAD):
            self._origin.check(self._json(lines[0], 1), str(self._file.path))
            self._head, lines, first = lines[0] + b"\n", lines[1:], 2
        elif rest and not end and not rest.startswith(HEAD[: len(rest)]):
            raise self._refusal()
        self._known = [self._record(line, number) for number, line in enumerate(lines, first)]
        with contextlib.suppress(ValueError):  # an editor took its end away, or a kill cut it short
            if end and rest:
                self._known.append(self._record(rest, first + len(lines)))
                self._open_line = rest + b"\n"
        self._file.length, self._file.cut = len(whole + end), len(rest)
        return list(self._known)

    def _json(self, line: bytes, number: int) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            raise self._refusal(number, line) from error

    def _refusal(self, number: int = 1, line: bytes = HEAD[:0]) -> ValueError:
        """Of a file that is no search, or of a line of one that is damaged."""
        label, file = self._origin.label, self._file.path
        if number == 1 and not line.startswith(HEAD):
            return ValueError(f"{label}: {file} does not hold a search; give another file")
        told = line.decode(errors="replace")
        cure = (
            "restore the file from a copy, or give another file"
            if number == 1
            else "remove that line, and its run is made again, or give another file"
        )
        return ValueError(
            f"{label}: line {number} of {file} is damaged: {told!r:.80} is not what a search "
            f"wrote there; {cure}"
        )

    def _record(self, line: bytes, number: int) -> TrialRecord:
        kept = self._json(line, number)
        try:
            plain, reports = kept["point"], tuple((int(s), float(v)) for s, v in kept["reports"])
            value, state, seconds = kept["value"], kept["state"], kept["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal(number, line) from error
        places = self._space, self._places
        point = placed(plain, kept.get("options"), *places, str(self._file.path), self._origin)
        if state != "done":  # infinite; the sign of it is that of the direction
            value = worst(self._origin.direction)
        more = {n: kept[n] for n in ("number", "reason", "verdict") if n in kept}
        return TrialRecord(point, value, state, reports, seconds, **more)


def _line(kept: Mapping[str, Any]) -> bytes:
    return json.dumps(kept).encode() + b"\n"


def worst(direction: str) -> float:
    """The value of a run that was lost."""
    return -math.inf if direction == "maximize" else math.inf


def placed(
    plain: Mapping[str, Any],
    options: Mapping[str, str] | None,
    space: Space,
    places: Places,
    where: str,
    origin: Origin,
) -> dict[str, Any]:
    """The point that was kept as numbers; ValueError where it is not one of the space."""
    label, grid = origin.label, origin.grid
    if set(plain) != set(space):
        raise ValueError(
            f"{label}: {where} holds a search of {', '.join(plain)}, not of {', '.join(space)}; "
            f"give another file for this {grid}"
        )
    plain = dict(plain)
    for name, values in space.items():
        told: Any = repr(plain[name]) if options is None else options.get(name, repr(plain[name]))
        if isinstance(values, Choice):
            # Without texts, in files of before, a number is the place of an option.
            at = plain[name] if options is None else places.find(name, told)
            plain[name] = at if type(at) is int else -1
        elif options is not None and name in options:  # the run of a sweep
            plain[name] = _in_range(values, told)
        low, high = ends(values)
        if not low - abs(low) * 1e-9 <= plain[name] <= high + abs(high) * 1e-9:
            raise ValueError(
                f"{label}: {where} holds a search with {name}={told}, which is not in "
                f"{described(values)}; keep it in the {grid}, or give another file for this {grid}"
            )
    return decoded(plain, space)


def _in_range(values: Any, text: str) -> float:
    """The number of a text as a range has it; NaN, which is in no range, where it is none."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    if not values.whole:
        return number
    return int(number) if number.is_integer() else math.nan
