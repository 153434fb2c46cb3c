"""The file that keeps the runs of a search: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stepsize.tuning.space import Choice, Places, Space, decoded, ends
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
        self._places = Places(space)
        self._file.touch()  # a path that cannot be written fails before anything has run

    def append(self, record: TrialRecord) -> None:
        kept: dict[str, Any] = {**vars(record), "point": self._places.coded(record.point)}
        # The places of options may be others when the file is read.
        kept["options"] = self._places.options(record.point)
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
        point = placed(plain, kept.get("options", {}), self._space, self._places, str(file))
        more = {n: kept[n] for n in ("number", "reason", "verdict") if n in kept}
        return TrialRecord(point, kept["value"], kept["state"], reports, kept["seconds"], **more)


def placed(
    plain: Mapping[str, Any], options: Mapping[str, str], space: Space, places: Places, where: str
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
            plain[name] = places.find(name, told)
        low, high = ends(values)
        if not low - abs(low) * 1e-9 <= plain[name] <= high + abs(high) * 1e-9:
            raise ValueError(
                f"tune: {where} holds a search with {name}={told}, which is not in "
                f"{values}; give another file for this space"
            )
    return decoded(plain, space)
