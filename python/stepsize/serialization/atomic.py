"""Replacing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

_counter = itertools.count()
_O_BINARY = getattr(os, "O_BINARY", 0)
_O_ASIDE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write to that takes the place of ``path`` when the block ends well.

    The bytes go to a temporary file beside ``path``, are flushed to the disk, and take the name
    ``path`` in one rename; then the directory is flushed, so that the new name survives a power cut
    too. Until the rename ``path`` is untouched. An error in the block or in any system call removes
    the temporary file and is raised; what a killed process left behind goes with the next write. A
    symbolic link is followed. The new file has the permissions of the old one, or those that the
    umask allows.

    Raises:
        OSError: ``path`` is a folder, a pipe, a socket or a device: a rename would destroy it.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x")
        >>> with replacing(path) as file:
        ...     _ = file.write(b"all of it")
        >>> os.path.getsize(path), len(os.listdir(os.path.dirname(path)))
        (9, 1)
    """
    target, old = _target(path)
    folder, name = os.path.split(target)
    own = re.compile(re.escape(_prefix(name)) + r"[0-9]+-[0-9]+\.tmp")
    _sweep(folder, own)
    temporary, descriptor = _temporary(folder, _prefix(name), old)
    try:
        with os.fdopen(descriptor, "wb") as file, _lock_kept(descriptor):
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()  # before the rename: it may be what tells of a full disk
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse what `replacing` would refuse: a folder, a pipe, a socket, a device."""
    _target(path)


def _target(path: str | os.PathLike[str]) -> tuple[str, os.stat_result | None]:
    """The file that a path leads to, and what is there now."""
    try:
        given = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"a file is named by a str or a path, got {path!r:.80}") from None
    if not given or given.endswith(("/", os.sep)):
        raise ValueError(f"a path must end in the name of a file, got {given!r}")
    target = os.path.realpath(given)
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(old.st_mode):
        kinds = {
            stat.S_IFDIR: (errno.EISDIR, "it is a folder"),
            stat.S_IFIFO: (errno.EINVAL, "it is a pipe"),
            stat.S_IFSOCK: (errno.EINVAL, "it is a socket"),
        }
        code, kind = kinds.get(stat.S_IFMT(old.st_mode), (errno.EINVAL, "it is a device"))
        raise OSError(code, f"{kind}, not a file; give the path of a file", given)
    return target, old


def _prefix(name: str) -> str:
    """How the temporary files for a file begin: by its name where that leaves room."""
    size = len(os.fsencode(name))
    stem = name if size < 200 else hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{stem}.stepsize-"


def _temporary(folder: str, prefix: str, old: os.stat_result | None) -> tuple[str, int]:
    """A new file, locked to show that its owner lives."""
    while True:
        path = os.path.join(folder, f"{prefix}{os.getpid()}-{next(_counter)}.tmp")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _O_BINARY
        try:
            descriptor = os.open(path, flags, 0o666 if old is None else 0o600)
        except FileExistsError:  # of a process that is gone, on a disk that cannot lock
            continue
        try:
            _lock(descriptor)
            # Another process may have swept it away between its birth and the lock.
            if os.fstat(descriptor).st_nlink:
                if old is not None:
                    _take_over(descriptor, old)
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        os.close(descriptor)


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """The permissions of the old file and, where that may be done, its owner."""
    if not hasattr(os, "fchown"):  # Windows
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _lock(descriptor: int, wait: bool = True) -> bool:
    """Lock a temporary file to show that its owner lives; the system unlocks it at death."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked, so nothing is swept
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _lock_kept(descriptor: int) -> Iterator[None]:
    """Keep the lock of a file while it is closed and renamed."""
    if os.name != "posix":  # an open file could not be renamed; nothing is locked there
        yield
        return
    same = os.dup(descriptor)
    try:
        yield
    finally:
        os.close(same)


def _sweep(folder: str, own: re.Pattern[str]) -> None:
    """Remove the temporary files of processes that were killed while they wrote this file.

    Nothing but files that `replacing` itself has named, and that no one holds locked.
    """
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            if own.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_dead(entry.path)


def _remove_if_dead(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | _O_ASIDE)
    try:
        if _lock(descriptor, wait=False):
            os.unlink(path)
    finally:
        os.close(descriptor)


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
