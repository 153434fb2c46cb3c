"""Diagnosis of a run in progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsize import arrays
from stepsize.diagnosis import FEWEST_STEPS, VERDICTS, Diagnosis, diagnose, watched, words
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
        warn: verdicts to warn of, each once, as a UserWarning.
        stop: verdicts that end the run.
        act: called as ``act(run, diagnosis)`` after each diagnosis.

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

    def __init__(
        self,
        every: int = 50,
        *,
        warn: Sequence[str] = watched("warn"),
        stop: Sequence[str] = watched("stop"),
        act: Callable[[Run, Diagnosis], Any] | None = None,
    ) -> None:
        every = whole("DiagnosisMonitor: every", every, FEWEST_STEPS)
        for label, names in (("warn", warn), ("stop", stop)):
            if isinstance(names, str) or not isinstance(names, Iterable):
                raise TypeError(
                    f"DiagnosisMonitor: {label} must be a list of verdicts, got {names!r:.200}"
                )
            for name in names:
                if name not in VERDICTS:
                    raise ValueError(
                        f"DiagnosisMonitor: {label}: {name!r:.80} is no verdict; they are "
                        f"{', '.join(VERDICTS)}"
                    )
        if act is not None and not callable(act):
            raise TypeError(
                "DiagnosisMonitor: act must be a function (run, diagnosis) or None, got "
                f"{act!r:.200}"
            )
        self.every = every
        self.warn = tuple(warn)
        self.stop = tuple(stop)
        self.act = act
        self.diagnoses: list[tuple[int, Diagnosis]] = []
        self._next = every
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
        diagnosis = diagnose(run.history)
        self.diagnoses.append((run.step, diagnosis))
        if self.act is not None:
            self.act(run, diagnosis)
        if diagnosis.verdict in self.stop:
            run.stop(f"diagnosed {words(diagnosis.verdict)} at step {run.step}")
        elif diagnosis.verdict in self.warn and diagnosis.verdict not in self._warned:
            self._warned.add(diagnosis.verdict)
            warnings.warn(f"step {run.step}: {diagnosis}", UserWarning, stacklevel=2)


def _signs(grads: Any) -> NDArray[np.int8]:
    """The signs of a sample of some thousand numbers, evenly spaced over all dense leaves."""
    flat = arrays.flatten(grads)[0]
    leaves = [arrays.view_as_real(leaf) for leaf in flat if isinstance(leaf, np.ndarray)]
    stride = max(1, sum(leaf.size for leaf in leaves) // SAMPLE)
    parts = [np.sign(leaf.reshape(-1)[::stride]).astype(np.int8) for leaf in leaves]
    return np.concatenate(parts) if parts else np.zeros(0, np.int8)
