"""Which files a run may replace: those that look like what it writes there, and no others.

A call that does nothing but write, such as `ss.save` or `History.to_csv`, writes where it is told.
What is written beside something else, a checkpoint, a log, a picture, the files of a command,
replaces a file of its own kind alone, and says so before the work begins.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from stepsize.serialization.atomic import check_target
from stepsize.serialization.container import START

Kind = Callable[[bytes], bool]

_PICTURES = (
    *(b"\x89PNG", b"%PDF", b"%!PS", b"<?xml", b"<svg", b"\x1f\x8b", b"%% Creator: Matplotlib"),
    *(b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"),
)
_TABLES = ("step,", "lr,", "rule,", "factor,")  # how those of a history, a search, ... begin


def _table(head: bytes) -> bool:
    return head.decode("utf-8", "replace").startswith(_TABLES)


def _picture(head: bytes) -> bool:
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_PICTURES) or webp or head[4:12] == b"ftypavif"


# What the first bytes of each kind of file are, and what it is called.
KINDS: dict[str, Kind] = {
    "checkpoint of stepsize": lambda head: head[8:].startswith(START),
    "CSV of stepsize": _table,
    "log of stepsize": lambda head: _table(head) or head.startswith(b'{"event"'),
    "report of stepsize": lambda head: head.startswith(
        b'<!doctype html>\n<html lang="en">\n<head>'
    ),
    "picture": _picture,
}


def check_replaceable(label: str, path: str | os.PathLike[str], kind: str) -> None:
    """Refuse a path that cannot be written, and a file there that is of another kind.

    Raises:
        FileExistsError: a file with other content is there.
        OSError: the folder is missing or may not be written to, or the path is one of a folder, a
            pipe or a device.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "notes.txt")
        >>> check_replaceable("checkpoint", path, "checkpoint of stepsize")  # there is none
        >>> with open(path, "w") as file:
        ...     _ = file.write("what I want to keep")
        >>> check_replaceable("checkpoint", path, "checkpoint of stepsize")
        Traceback (most recent call last):
        ...
        FileExistsError: [Errno 17] checkpoint: there is a file that is no checkpoint ...
    """
    given = os.fsdecode(path)
    try:
        check_target(given)
    except OSError as error:
        raise OSError(error.errno, f"{label}: {error.strerror}", given) from None
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    folder = os.path.dirname(os.path.realpath(given))
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            errno.ENOENT, f"{label}: the folder is missing, make it first", folder
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"{label}: the folder may not be written to", folder)
    head = _head(given)
    if head and not KINDS[kind](head):
        raise FileExistsError(
            errno.EEXIST,
            f"{label}: there is a file that is no {kind}, and it would be lost; give another path, "
            "or move that file away",
            given,
        )


def _head(path: str) -> bytes:
    """How a file begins; empty where there is none, or nothing in it."""
    try:
        if not os.path.isfile(path):  # a pipe would wait for ever
            return b""
        with open(path, "rb") as file:
            return file.read(256)
    except FileNotFoundError:
        return b""
