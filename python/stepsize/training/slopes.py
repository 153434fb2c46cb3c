"""The slopes of some steps of a run, from gradients that are there anyway.

`history.meta["slopes"]` gets a row for each step looked at: its number, and the products of the
step with the gradients at its start and its end. `diagnose` compares them with what the loss did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stepsize.gradients.silence import FEWEST_LOOKS, Silence
from stepsize.gradients.slopes import Move
from stepsize.training.run import Run

FIRST = 16  # steps that are all looked at
PER_OCTAVE = 4  # looks in each doubling of the steps after them: 40 in a thousand


def looks() -> Iterator[int]:
    """The steps to look at, counted from 0, without an end."""
    yield from range(FIRST)
    k = 0
    while True:
        yield round(FIRST * 2 ** (k / PER_OCTAVE))
        k += 1


class StepSlopes:
    """Looks at steps of a run; `next` is the step at which there is something to do."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._looks = looks()
        self._look = next(k for k in self._looks if k >= run.step)
        self._move, self._silence = Move(run.params), Silence(run.params, run.step)
        self._under_way = False
        self._grads: Any = None
        self._start = math.nan
        # Of a rule that evaluates the function itself, nobody knows where the gradient is of.
        closed = getattr(run.optimizer, "needs_closure", False)
        self.next = math.inf if closed else float(self._look)

    def gradient(self, grads: Any) -> None:
        """A gradient was computed: it ends the step before, and may start one to look at."""
        run = self._run
        if self._under_way and math.isfinite(self._start):
            try:
                end = self._move.along(grads)
            except (TypeError, ValueError):  # the step says what is wrong with it
                end = math.nan
            if not math.isfinite(end):
                self._stop()
                return
            run.history.meta.setdefault("slopes", []).append([run.step, self._start, end])
        self._start = math.nan
        self._under_way = run.step >= self._look
        if self._under_way:
            self._move.begin()
            self._grads = grads
            self._look = next(k for k in self._looks if k > run.step)
        else:
            self._move.end()
        self.next = run.step + 1 if self._under_way else self._look

    def made(self) -> None:
        """The step was made."""
        if not self._under_way:
            return
        try:
            self._move.made()
            self._start = self._move.along(self._grads)
            self._note_still()
            self._note_silent()
        except (TypeError, ValueError):
            self._stop()
        self._grads = None

    def _stop(self) -> None:
        self.next = math.inf
        self._move.end()

    def _note_silent(self) -> None:
        """Keep the units without a gradient, those of before a resumption until known anew."""
        self._silence.look(self._grads, self._run.step)
        if self._silence.looks >= FEWEST_LOOKS:
            self._run.history.meta["silent"] = self._silence.units()

    def _note_still(self) -> None:
        """Keep the names of the leaves whose gradient was 0 at every look so far."""
        meta = self._run.history.meta
        known = meta.get("still")
        if known != []:
            found = self._move.still(self._grads)
            names = meta["still"] = sorted(found if known is None else found & set(known))
            meta["moving"] = self._move.moving(names) if names else 1.0
