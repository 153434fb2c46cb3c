"""The file that keeps the runs of a search: one JSON object per line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stepsize.tuning.locks import locked, unlocked
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
    first line of this kind. Until `close` no other search may take it.
    """

    def __init__(self, path: Any, space: Space, origin: Origin) -> None:
        label = origin.label
        self._file, self._space = Path(file_path(f"{label}: storage", path)), space
        self._places, self._origin = Places(space), origin
        self._places.check(label)
        self._cut: int | None = None  # the length without the line that was cut short
        # A path that cannot be written fails before anything has run.
        self._lock = self._file.open("ab")
        if not locked(self._lock.fileno()):
            self._lock.close()
            raise RuntimeError(
                f"{label}: another search is writing to {self._file}; wait for its end or give "
                "another file"
            )

    def close(self) -> None:
        unlocked(self._lock.fileno())
        self._lock.close()

    def append(self, record: TrialRecord) -> None:
        kept: dict[str, Any] = {**vars(record), "point": self._places.coded(record.point)}
        # The places of options may be others when the file is read.
        kept["options"] = self._places.options(record.point)
        if self._cut is not None:
            os.truncate(self._file, self._cut)
            self._cut = None
        try:
            self._write(kept)
        except OSError as error:  # such as that of a disk without room
            error.add_note(
                f"{self._origin.label}: run {record.number} could not be kept in {self._file}, "
                "which holds those before it; make room, and the same call goes on from there"
            )
            raise

    def _write(self, kept: Mapping[str, Any]) -> None:
        with self._file.open("ab") as stream:
            head = {"stepsize": "search", **self._origin.kept()}
            first = b"" if stream.tell() else json.dumps(head).encode() + b"\n"
            stream.write(first + json.dumps(kept).encode() + b"\n")

    def read(self) -> list[TrialRecord]:
        whole, end, rest = self._file.read_bytes().rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        if lines and lines[0].startswith(HEAD):
            self._origin.check(self._json(lines[0]), str(self._file))
            lines = lines[1:]
        elif rest and not end and not rest.startswith(HEAD[: len(rest)]):
            raise self._refusal()
        records = [self._record(line) for line in lines]
        if rest:
            self._cut = len(whole + end)
        return records

    def _json(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            raise self._refusal() from error

    def _refusal(self) -> ValueError:
        label = self._origin.label
        return ValueError(f"{label}: {self._file} does not hold a search; give another file")

    def _record(self, line: bytes) -> TrialRecord:
        file, kept = self._file, self._json(line)
        try:
            plain, reports = kept["point"], tuple((int(s), float(v)) for s, v in kept["reports"])
            value, state, seconds = kept["value"], kept["state"], kept["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal() from error
        places = self._space, self._places
        point = placed(plain, kept.get("options"), *places, str(file), self._origin)
        if state != "done":  # infinite; the sign of it is that of the direction
            value = worst(self._origin.direction)
        more = {n: kept[n] for n in ("number", "reason", "verdict") if n in kept}
        return TrialRecord(point, value, state, reports, seconds, **more)


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
