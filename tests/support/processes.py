"""Other processes, as tests look at them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


def runs(process):
    """Whether a process is there, and no zombie whose parent does not look."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def ended(pids: Iterable[int], seconds: float = 10.0) -> bool:
    """Whether all of them end soon: the system takes a while to bury a process that was killed."""
    left, until = list(pids), time.monotonic() + seconds
    while any(map(runs, left)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(runs, left))


def child_ends(work, seconds=30.0):
    """Fork, let the child do the work, and tell whether it has come to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
