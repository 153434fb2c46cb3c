"""The sharpness of the loss during a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stepsize.arrays import Nest, check_function, copy
from stepsize.curvature.critical import UpdateLine, critical_rate
from stepsize.curvature.measuring import check_optimizer
from stepsize.rng import rewinder
from stepsize.serialization import states
from stepsize.validation import as_loss, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["SharpnessMonitor"]

BELOW = math.sqrt(0.5)  # of the last critical rate: the next doubling passes an unchanged one


class SharpnessMonitor:
    """Record the sharpness along the optimizer's own update, from losses alone.

    Every so many steps, before the step, ``history["sharpness"]`` gets ``2 / critical_rate``: the
    critical rate is the smallest at which the update about to be made would no longer lower the
    loss of its batch. `diagnose` reads the series: the rate times the sharpness above 2 is beyond
    the edge of stability. It costs 5 losses where the sharpness has changed by less than a factor
    of 1.4 since the last time, one more for each further factor of two up to 40, no gradients, and
    a copy of parameters and state. Nothing of the run changes. An update that lowers the loss at
    any rate is recorded as 0, one that lowers it at none is left out.

    Args:
        loss: ``(params, batch) -> loss``; what returns ``(loss, grads)`` will do as well.
        every: steps between two measurements.

    Attributes:
        calls: of ``loss`` in this run.

    Source: Kalra et al. 2026, arXiv:2601.16979.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = np.array([1.0])
        >>> def value_and_grad(p, batch):
        ...     return float(p @ p), 2 * p
        >>> monitor = ss.SharpnessMonitor(value_and_grad, every=5)
        >>> history = ss.fit(value_and_grad, params, ss.SGD(params, lr=0.1), [None] * 10,
        ...                  epochs=1, callbacks=[monitor])
        >>> history["sharpness"].round(6)[[4, 9]], monitor.calls
        (array([2., 2.]), 13)
    """

    def __init__(self, loss: Callable[[Nest, Any], Any], every: int = 50) -> None:
        check_function("SharpnessMonitor", loss, "loss", "loss")
        self.every = whole("SharpnessMonitor: every", every)
        self.calls = 0
        self._loss = loss
        self._guess: float | None = None
        self._found = math.nan

    def on_start(self, run: Run) -> None:
        """Refuse an optimizer whose update is not known before its step."""
        check_optimizer("SharpnessMonitor", run.optimizer)
        if run.step == 0:
            self._guess, self.calls = None, 0

    def on_gradients(self, run: Run) -> None:
        """Measure if the step to come is due."""
        self._found = math.nan
        if (run.step + 1) % self.every:
            return
        batches = run.batch if run.accumulate > 1 else [run.batch]
        rewind = rewinder(self._loss)

        def loss(point: Nest) -> float:
            losses = []
            rewind()
            for batch in batches:
                self.calls += 1
                losses.append(_value(self._loss(copy(point), batch)))
            return math.fsum(losses) / len(losses)

        try:
            start = loss(run.params)
            if not math.isfinite(start):
                return
            line = UpdateLine(run.params, run.optimizer, run.grads, start)
            guess = self._guess or line.lr or 1.0
            rate, _ = critical_rate(line, loss, start, guess)
        finally:
            rewind()
        if rate > 0:
            self._guess = BELOW * rate if rate < math.inf else guess
            self._found = 2 / rate

    def on_step(self, run: Run) -> None:
        """Record what was measured before the step."""
        if self._found == self._found:
            run.history.record("sharpness", self._found)

    def state_dict(self) -> dict[str, Any]:
        """The rate that the next measurement starts from, and the calls so far."""
        return {"guess": self._guess, "calls": self.calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"guess": states.optional(states.finite), "calls": states.count}
        found = states.checked("SharpnessMonitor", state, checks)
        self._guess, self.calls = found["guess"], found["calls"]


def _value(found: Any) -> float:
    return as_loss(found[0] if isinstance(found, tuple) else found)
