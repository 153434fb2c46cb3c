"""Other processes, as tests look at them."""

from __future__ import annotations

import os
from pathlib import Path


def runs(process):
    """Whether a process is there, and no zombie whose parent does not look."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
