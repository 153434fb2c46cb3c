"""Progress of a run: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from stepsize.bars import can_redraw, open_bar, written

REFRESH = 0.1  # seconds between two updates of the bar
LINES = 10.0  # seconds between two lines


class Progress:
    """Shows progress at most ten times a second, however many steps are made.

    Args:
        show: True shows a bar in a terminal or notebook and lines elsewhere, False nothing. None is
            like True, but a run of less than ten seconds without a terminal stays silent.
        total: steps the run will make, None if unknown.
        first: steps it had made when it was resumed.
    """

    def __init__(self, show: bool | None, total: int | None, first: int = 0):
        self._total = total
        self._first = first
        self._start = time.perf_counter()
        self._bar: Any = None
        self._always = show is True
        if show is False:
            self._interval = self._next = float("inf")
        elif can_redraw():
            self._interval, self._next = REFRESH, self._start
            self._bar = open_bar(total=total, initial=first, unit="step", dynamic_ncols=True)
        else:
            self._interval, self._next = LINES, self._start + LINES

    def on_step(self, run: Any) -> None:
        """Show the step if due."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self._interval
            self._show(run, now)

    def close(self, run: Any) -> None:
        """Show the last step and close the bar."""
        if self._bar is not None:
            self._show(run, time.perf_counter())
            written(self._bar.close)
        elif self._always and run.step > self._first:
            self._show(run, time.perf_counter())

    def _show(self, run: Any, now: float) -> None:
        if run.history.steps and not written(lambda: self._write(run, now)):
            self._next = self._interval = float("inf")

    def _write(self, run: Any, now: float) -> None:
        values = {
            "loss": f"{run.history.last('loss'):.4g}",
            "lr": f"{run.history.last('lr'):.3g}",
            "grad": f"{run.history.last('grad_norm'):.3g}",
        }
        values |= {name: f"{value:.4g}" for name, value in run.metrics.items() if name != "loss"}
        if self._bar is not None:
            self._bar.n = run.step
            self._bar.set_postfix(values, refresh=True)
            return
        rate = (run.step - self._first) / max(now - self._start, 1e-9)
        of = f"/{self._total}" if self._total else ""
        shown = "  ".join(f"{name} {value}" for name, value in values.items())
        left = f"  {(self._total - run.step) / rate:.0f} s left" if self._total and rate else ""
        print(f"step {run.step}{of}  {shown}  {rate:.3g} steps/s{left}", file=sys.stderr)
