"""Progress of a search: a bar in a terminal with the best so far, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from stepsize.bars import can_redraw, open_bar, written
from stepsize.training.progress import LINES, REFRESH
from stepsize.tuning.trials import TrialRecord


class SearchProgress:
    """Shows how many runs came back and the best value, at most ten times a second.

    True shows a bar in a terminal or notebook and lines elsewhere, False nothing. None is like
    True, but a search of less than ten seconds without a terminal stays silent. With `sign` -1
    higher values are better; those told are times the sign.
    """

    def __init__(self, show: bool | None, total: int, sign: int) -> None:
        self._total, self._sign = total, sign
        self._count, self._best, self._lost = 0, math.inf, 0
        self._bar: Any = None
        self._always, now = show is True, time.perf_counter()
        if show is False:
            self._interval = self._next = math.inf
        elif can_redraw():
            self._interval, self._next = REFRESH, now
            self._bar = open_bar(total=total, unit="run", dynamic_ncols=True)
        else:
            self._interval, self._next = LINES, now + LINES

    def start(self, records: Any) -> None:
        """Count the runs that were kept before."""
        for record in records:
            self._take(record)

    def tell(self, record: TrialRecord) -> None:
        """Count a run, whose value is times the sign of the direction."""
        self._take(record)
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self._interval
            self._show()

    def close(self) -> None:
        """Show the last run and close the bar."""
        if self._bar is not None:
            self._show()
            written(self._bar.close)
        elif self._always:
            self._show()

    def _take(self, record: TrialRecord) -> None:
        self._count += 1
        self._best = min(self._best, record.value)
        self._lost += record.state not in ("done", "stopped")

    def _show(self) -> None:
        if not written(self._write):
            self._next = self._interval = math.inf

    def _write(self) -> None:
        values = {"best": f"{self._sign * self._best:.4g}" if self._best < math.inf else "none yet"}
        if self._lost:
            values["lost"] = f"{self._lost}"
        if self._bar is not None:
            self._bar.n = min(self._count, self._total)
            self._bar.set_postfix(values, refresh=True)
        else:
            shown = "  ".join(f"{name} {value}" for name, value in values.items())
            print(f"run {self._count}/{self._total}  {shown}", file=sys.stderr)
