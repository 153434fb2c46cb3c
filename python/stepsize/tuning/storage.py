"""The file that keeps the runs of a search: one JSON object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stepsize.tuning.space import Choice, Space, coded, decoded, ends
from stepsize.tuning.trials import TrialRecord
from stepsize.validation import file_path


class Store(Protocol):
    """Keeps records, whose values are as the objective returned them."""

    def read(self) -> list[TrialRecord]: ...

    def append(self, record: TrialRecord) -> None: ...


class Nowhere:
    """Keeps nothing."""

    def read(self) -> list[TrialRecord]:
        return []

    def append(self, record: TrialRecord) -> None:
        pass


class JsonLines:
    """A file of one JSON object per line; a last line that was cut short is taken off."""

    def __init__(self, path: Any, space: Space) -> None:
        self._file, self._space = Path(file_path("tune: storage", path)), space
        self._file.touch()  # a path that cannot be written fails before anything has run

    def append(self, record: TrialRecord) -> None:
        kept: dict[str, Any] = {**vars(record), "point": coded(record.point, self._space)}
        chosen = {n: shown(record.point[n]) for n, v in self._space.items() if _is_choice(v)}
        if chosen:
            kept["options"] = chosen  # whose places may be others when the file is read
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(kept) + "\n")

    def read(self) -> list[TrialRecord]:
        whole, _, rest = self._file.read_bytes().rpartition(b"\n")
        if rest:
            self._file.write_bytes(whole + b"\n" if whole else b"")
        return [self._record(line) for line in whole.splitlines()]

    def _record(self, line: bytes) -> TrialRecord:
        file = self._file
        try:
            kept = json.loads(line)
            plain, reports = kept["point"], tuple((int(s), float(v)) for s, v in kept["reports"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"tune: {file} does not hold a search; give another file") from error
        point = placed(plain, kept.get("options", {}), self._space, str(file))
        more = {n: kept[n] for n in ("number", "reason", "verdict") if n in kept}
        return TrialRecord(point, kept["value"], kept["state"], reports, kept["seconds"], **more)


def placed(
    plain: Mapping[str, Any], options: Mapping[str, str], space: Space, where: str
) -> dict[str, Any]:
    """The point that was kept as numbers; ValueError where it is not one of the space."""
    if set(plain) != set(space):
        raise ValueError(
            f"tune: {where} holds a search of {', '.join(plain)}, not of {', '.join(space)}; give "
            "another file for this space"
        )
    plain = dict(plain)
    for name, values in space.items():
        told: Any = repr(plain[name])
        if isinstance(values, Choice) and name in options:
            told = options[name]
            plain[name] = _index(values, plain[name], told)
        low, high = ends(values)
        if not low - abs(low) * 1e-9 <= plain[name] <= high + abs(high) * 1e-9:
            raise ValueError(
                f"tune: {where} holds a search with {name}={told}, which is not in "
                f"{values}; give another file for this space"
            )
    return decoded(plain, space)


def _index(values: Choice, at: int, told: str) -> int:
    """Where an option is now: where it was, if it is still there; -1 if it is nowhere."""
    names = [shown(option) for option in values.options]
    if 0 <= at < len(names) and names[at] == told:
        return at
    return names.index(told) if told in names else -1


def shown(option: Any) -> str:
    """An option as text, alike in every process: without the address of an object."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(option))


def _is_choice(values: Any) -> bool:
    return isinstance(values, Choice)
