"""The file that keeps the runs of a search: one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path

from stepsize.tuning.space import Space, coded, decoded, ends
from stepsize.tuning.trials import TrialRecord


def append(file: Path, record: TrialRecord, space: Space) -> None:
    kept = {**vars(record), "point": coded(record.point, space)}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(kept) + "\n")


def read(file: Path | None, space: Space) -> list[TrialRecord]:
    """The runs of a file, one to a line; a last line that was cut short is taken off."""
    if file is None or not file.exists():
        return []
    whole, _, rest = file.read_bytes().rpartition(b"\n")
    if rest:
        file.write_bytes(whole + b"\n" if whole else b"")
    return [_record(line, file, space) for line in whole.splitlines()]


def _record(line: bytes, file: Path, space: Space) -> TrialRecord:
    try:
        kept = json.loads(line)
        plain, reports = kept["point"], tuple((int(s), float(v)) for s, v in kept["reports"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"tune: {file} does not hold a search; give another file") from error
    if set(plain) != set(space):
        raise ValueError(
            f"tune: {file} holds a search of {', '.join(plain)}, not of {', '.join(space)}; give "
            "another file for this space"
        )
    for name, values in space.items():
        low, high = ends(values)
        if not low - abs(low) * 1e-9 <= plain[name] <= high + abs(high) * 1e-9:
            raise ValueError(
                f"tune: {file} holds a search with {name}={plain[name]!r}, which is not in "
                f"{values}; give another file for this space"
            )
    point = decoded(plain, space)
    return TrialRecord(point, kept["value"], kept["state"], reports, kept["seconds"])
