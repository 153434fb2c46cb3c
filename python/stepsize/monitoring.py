"""Diagnose a run while it goes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stepsize.diagnosis import FEWEST_STEPS, VERDICTS, Diagnosis, diagnose, words

if TYPE_CHECKING:
    from stepsize.run import Run


class DiagnosisMonitor:
    """A callback that diagnoses the run as it goes, and warns, stops or acts.

    The first look is after `every` steps; each next one after a tenth of the steps made, at least
    `every`. A look reads the whole history, so that the cost per step stays the same however long
    the run is.

    Args:
        every: the fewest steps between two looks.
        warn: verdicts to warn of, each once, as a UserWarning.
        stop: verdicts that end the run.
        act: called as ``act(run, diagnosis)`` at every look, to do anything else.

    Attributes:
        diagnoses: pairs of step and diagnosis, one for each look.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = np.array([1.0])
        >>> monitor = ss.DiagnosisMonitor(every=25)
        >>> history = ss.fit(lambda p, b: (float(p @ p), 2 * p), params, ss.SGD(params, lr=1.5),
        ...                  [None] * 100, epochs=1, callbacks=[monitor])
        >>> monitor.diagnoses[-1][1].verdict, len(history["loss"])
        ('diverging', 25)
    """

    def __init__(
        self,
        every: int = 50,
        *,
        warn: Sequence[str] = ("too_high", "too_low", "overfitting"),
        stop: Sequence[str] = ("diverging",),
        act: Callable[[Run, Diagnosis], Any] | None = None,
    ) -> None:
        if every < FEWEST_STEPS:
            raise ValueError(
                f"DiagnosisMonitor: every must be at least {FEWEST_STEPS}, got {every}"
            )
        for name in (*warn, *stop):
            if name not in VERDICTS:
                raise ValueError(
                    f"DiagnosisMonitor: {name!r} is no verdict; they are {', '.join(VERDICTS)}"
                )
        self.every = every
        self.warn = tuple(warn)
        self.stop = tuple(stop)
        self.act = act
        self.diagnoses: list[tuple[int, Diagnosis]] = []
        self._next = every
        self._warned: set[str] = set()

    def on_step(self, run: Run) -> None:
        """Look at the run if it is time to."""
        if run.step < self._next:
            return
        self._next = run.step + max(self.every, run.step // 10)
        diagnosis = diagnose(run.history)
        self.diagnoses.append((run.step, diagnosis))
        if self.act is not None:
            self.act(run, diagnosis)
        if diagnosis.verdict in self.stop:
            run.stop(f"diagnosed {words(diagnosis.verdict)} at step {run.step}")
        elif diagnosis.verdict in self.warn and diagnosis.verdict not in self._warned:
            self._warned.add(diagnosis.verdict)
            warnings.warn(f"step {run.step}: {diagnosis}", UserWarning, stacklevel=2)
