"""Diagnosis of a run in progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsize import arrays
from stepsize.diagnosis import (
    FEWEST_STEPS,
    VERDICTS,
    Diagnosis,
    Experiment,
    diagnose,
    watched,
    words,
)
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["DiagnosisMonitor"]

SAMPLE = 4096  # gradient signs compared per step


class DiagnosisMonitor:
    """Diagnose the run as it goes, and warn, stop or act on the verdict.

    The first diagnosis comes after ``every`` steps, each further one after a tenth of the steps
    made so far, at least ``every``: each reads the whole history, and so the cost per step does not
    grow with the run. Also recorded is ``sign_flips``, the share of gradient signs that changed
    since the last step, from a sample of a few thousand: 0.5 is noise, far more is overshooting.

    Args:
        every: the fewest steps between two diagnoses.
        warn: verdicts to warn of, each once, as a UserWarning; unless it is empty, a gradient that
            does not fit the loss is warned of too.
        stop: verdicts that end the run.
        act: called as ``act(run, diagnosis)`` after each diagnosis.
        what_if: called as ``what_if(run)`` where the curves leave doubt, to return the branches
            that settle it, as ``lambda run: ss.what_if(value_and_grad, run.params, run.optimizer,
            (x, y), history=run.history)``. It works on copies: the run goes on bit for bit.
        what_if_every: the fewest steps between two of its calls, since each costs gradients; None
            waits until the run has twice the steps.

    Attributes:
        diagnoses: pairs of step and diagnosis.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = np.array([1.0])
        >>> monitor = ss.DiagnosisMonitor(every=25)
        >>> history = ss.fit(lambda p, b: (float(p @ p), 2 * p), params, ss.SGD(params, lr=1.5),
        ...                  [None] * 100, epochs=1, callbacks=[monitor])
        >>> monitor.diagnoses[-1][1].verdict, len(history["loss"])
        ('diverging', 25)
    """

    expects_descent = True  # of the loss: fit refuses it with an optimizer that climbs

    def __init__(
        self,
        every: int = 50,
        *,
        warn: Sequence[str] = watched("warn"),
        stop: Sequence[str] = watched("stop"),
        act: Callable[[Run, Diagnosis], Any] | None = None,
        what_if: Callable[[Run], Experiment | None] | None = None,
        what_if_every: int | None = None,
    ) -> None:
        every = whole("DiagnosisMonitor: every", every, FEWEST_STEPS)
        for label, names in (("warn", warn), ("stop", stop)):
            if not isinstance(names, list | tuple | set | frozenset):
                raise TypeError(
                    f"DiagnosisMonitor: {label} must be a list of verdicts, got {names!r:.200}"
                )
            for name in names:
                if not isinstance(name, str) or name not in VERDICTS:
                    raise ValueError(
                        f"DiagnosisMonitor: {label}: {name!r:.80} is no verdict; they are "
                        f"{', '.join(VERDICTS)}"
                    )
        for label, given, takes in (("act", act, "run, diagnosis"), ("what_if", what_if, "run")):
            if given is not None and not callable(given):
                raise TypeError(
                    f"DiagnosisMonitor: {label} must be a function ({takes}) or None, got "
                    f"{given!r:.200}"
                )
        if what_if_every is not None:
            whole("DiagnosisMonitor: what_if_every", what_if_every)
            if what_if is None:
                raise ValueError(
                    f"DiagnosisMonitor: what_if_every={what_if_every} says how often, but not what "
                    "to try: give what_if=lambda run: ss.what_if(value_and_grad, run.params, "
                    "run.optimizer, batches, history=run.history)"
                )
        self.every = every
        self.warn = tuple(warn)
        self.stop = tuple(stop)
        self.act = act
        self.what_if = what_if
        self.what_if_every = what_if_every
        self.diagnoses: list[tuple[int, Diagnosis]] = []
        self._next = every
        self._next_experiment = 0
        self._warned: set[str] = set()
        self._signs: NDArray[np.int8] | None = None
        self._flips = float("nan")

    def on_gradients(self, run: Run) -> None:
        """Compare the signs of a sample of the gradient with those of the last step."""
        signs, last = _signs(run.grads), self._signs
        self._signs, self._flips = signs, float("nan")
        if last is not None and last.shape == signs.shape:
            both = signs * last
            if both.any():
                self._flips = float(np.count_nonzero(both < 0) / np.count_nonzero(both))

    def on_step(self, run: Run) -> None:
        """Diagnose the run if due."""
        if self._flips == self._flips:
            run.history.record("sign_flips", self._flips)
        if run.step < self._next:
            return
        self._next = run.step + max(self.every, run.step // 10)
        diagnosis = diagnose(run.history, what_if=self._experiment_of(run))
        self.diagnoses.append((run.step, diagnosis))
        if self.act is not None:
            self.act(run, diagnosis)
        if diagnosis.verdict in self.stop:
            why = ", with a gradient that does not fit the loss" if diagnosis.mismatch else ""
            run.stop(f"diagnosed {words(diagnosis.verdict)} at step {run.step}{why}")
            return
        # A gradient that does not fit the loss, or is none, comes before whatever the verdict is.
        first = diagnosis.findings[0].kind if diagnosis.findings else ""
        before = first in ("gradient_mismatch", "dead_units")
        name = first if before else diagnosis.verdict
        told = bool(self.warn) if before else name in self.warn
        if told and name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"step {run.step}: {diagnosis}", UserWarning, stacklevel=2)

    def _experiment_of(self, run: Run) -> Callable[[], Experiment | None] | None:
        """The experiment on this run, where one may be made again."""
        ask = self.what_if
        if ask is None or run.step < self._next_experiment:
            return None

        def asked() -> Experiment | None:
            self._next_experiment = run.step + (self.what_if_every or run.step)
            return ask(run)

        return asked


def _signs(grads: Any) -> NDArray[np.int8]:
    """The signs of a sample of some thousand numbers, evenly spaced over all dense leaves."""
    flat = arrays.flatten(grads)[0]
    leaves = [arrays.view_as_real(leaf) for leaf in flat if isinstance(leaf, np.ndarray)]
    stride = max(1, sum(leaf.size for leaf in leaves) // SAMPLE)
    parts = [np.sign(leaf.reshape(-1)[::stride]).astype(np.int8) for leaf in leaves]
    return np.concatenate(parts) if parts else np.zeros(0, np.int8)
