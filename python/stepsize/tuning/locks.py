"""Locks of a file by a process, which the system takes off when the process is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

FAR = 2**31 - 2  # a byte that no search reaches: on Windows a locked one cannot be read
BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def locked(descriptor: int) -> bool:
    """Lock an open file; False where another has it, True also where files cannot be locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in BUSY
    return True


def unlocked(descriptor: int) -> None:
    """Take the lock off, of copies in forked processes too."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_UN)
