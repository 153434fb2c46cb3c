"""What a file is that is no log of a run, in words, with the next move."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from stepsize.validation import counted

__all__ = ["DELIMITERS", "HEAD", "no_log", "no_text"]

HEAD = 4096  # bytes that are looked at
DELIMITERS = ",;\t|"
FEW = 3  # lines without a step may yet be followed by steps
NAMES = 8  # of columns that are told
LOGS = 'log the run with ss.JSONLogger("run.jsonl") or ss.CSVLogger'
BEGINNINGS = (
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"%PDF", "a document (PDF)"),
    (b"<svg", "a picture (SVG)"),
    (b"<!doctype html", "a web page (HTML)"),
    (b"<html", "a web page (HTML)"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
)
PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
MARKS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def no_text(head: bytes, path: Path) -> str:
    """Why a file that begins so holds no lines of text; empty where it may.

    >>> no_text(b"{}", Path("run.jsonl"))
    ''
    """
    lower = head.lstrip().lower()
    for start, kind in BEGINNINGS:
        if head.startswith(start) or lower.startswith(start):
            return f"it is {kind}, not the log of a run; {LOGS}"
    for start, packer in PACKED:
        if head.startswith(start):
            return f"it is packed by {packer}; unpack it first"
    if head.startswith(b"PK\x03\x04"):
        return "it is a ZIP file, such as .npz or .xlsx are, not the log of a run; unpack it first"
    for start, encoding in MARKS:
        if head.startswith(start):
            return _encoded(encoding)
    # After a power failure there may be a hole of zeros further on: that is a bad line, no more.
    if b"\0" not in head.partition(b"\n")[0]:
        return ""
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return (
            "it is a file of parameters (safetensors), such as a checkpoint, not the log of a "
            f"run; {LOGS}"
        )
    if "tfevents" in path.name:
        return f"it is a log for TensorBoard: tensorboard --logdir {path.parent}; or {LOGS}"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 3 and min(even, odd) == 0:
        return _encoded("UTF-16")
    return f"it holds bytes and no text; {LOGS}"


def _encoded(encoding: str) -> str:
    return (
        f"it is written in {encoding}, as the > of PowerShell does; write it in UTF-8, such as by "
        "| Out-File -Encoding utf8"
    )


def no_log(lines: list[str]) -> str:
    """Why lines, none of which was an event, are no log of a run; empty where they say nothing.

    >>> no_log(["epoch,loss", "1,0.5"])[:45]
    'its columns are epoch, loss, and none is step'
    """
    first = lines[0].strip()
    if "\r" in first:
        return "its lines end in CR alone, as those of old Macs do; end them in LF"
    try:
        found = json.loads(first)
    except (ValueError, RecursionError):
        return _no_object(first) or _no_header(lines)
    if isinstance(found, list):
        return "it is one list in JSON; write one object with a step in each line"
    if not isinstance(found, dict):
        return ""
    if found.get("stepsize") == "search" or {"point", "value", "state"} <= found.keys():
        return (
            "it is the storage of a search, not the log of a run; the search that wrote it shows "
            "it, and goes on from it, when it is called again"
        )
    if "step" in found or len(lines) < FEW:
        return ""  # what is wrong with the line tells more, or the run has hardly begun
    names = _told([str(name) for name in found])
    return f"its lines hold {names}, and no step; add a number by the name of step to each"


def _no_object(first: str) -> str:
    """The words for one object or list that is spread over several lines."""
    if first in ("{", "[") or first.startswith(("[{", "[ {")):
        return "it is one list or object in JSON; write one object with a step in each line"
    return ""


def _no_header(lines: list[str]) -> str:
    """The words for a table without a column `step`."""
    for mark in DELIMITERS:
        try:
            rows = [next(csv.reader([line], delimiter=mark), []) for line in lines]
        except csv.Error:
            continue
        if len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
            continue
        if all(_is_cell_of_number(cell) for cell in rows[0]):
            return (
                f"its first line holds {counted(len(rows[0]), 'number')} and no names; write the "
                "names of the columns above, one of them step"
            )
        if len(rows) > 1:
            return (
                f"its columns are {_told(rows[0])}, and none is step; add a column step that "
                "counts up"
            )
    return ""


def _is_cell_of_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _told(names: list[str]) -> str:
    shown = [name.strip()[:40] or "''" for name in names[:NAMES]]
    more = f" and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
    return ", ".join(shown) + more
