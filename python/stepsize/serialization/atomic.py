"""Replacing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from typing import BinaryIO

_counter = itertools.count()
_O_BINARY = getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write to that takes the place of ``path`` when the block ends well.

    The bytes go to a temporary file beside ``path``, are flushed to the disk, and take the name
    ``path`` in one rename; then the directory is flushed, so that the new name survives a power cut
    too. Until the rename ``path`` is untouched. An error in the block or in any system call removes
    the temporary file and is raised; what a killed process left behind goes with the next write. A
    symbolic link is followed.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x")
        >>> with replacing(path) as file:
        ...     _ = file.write(b"all of it")
        >>> os.path.getsize(path), len(os.listdir(os.path.dirname(path)))
        (9, 1)
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    prefix = f".{name[:200]}."
    _sweep(folder, prefix)
    temporary = os.path.join(folder, f"{prefix}{os.getpid()}-{next(_counter)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _O_BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _lock(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _lock(descriptor: int) -> bool:
    """Lock a temporary file to show that its owner lives; the system unlocks it at death."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked, so nothing is swept
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: str, prefix: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote this file."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        stale = [e.path for e in entries if e.name.startswith(prefix) and e.name.endswith(".tmp")]
        for path in stale:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                if _lock(file.fileno()):
                    os.unlink(path)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot do this
            raise
    finally:
        os.close(descriptor)
