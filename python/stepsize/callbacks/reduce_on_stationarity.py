"""Lowering the rate of a run whose parameters no longer go anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.serialization import states
from stepsize.validation import number, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["ReduceOnStationarity"]

TESTS = 64  # at least, in as many steps as the run has made, before they become rarer


class ReduceOnStationarity:
    r"""Lower the learning rate when noise is all that still moves the parameters.

    Under a constant rate a run with noise comes to rest at a level that the rate decides; from then
    on only a lower one makes it better. There the squared norm of the parameters, which each step
    changes by :math:`d_k`, stays the same on average, and the change is recorded anyway:

    .. math::
        d_k = \lVert x_{k+1} \rVert^2 - \lVert x_k \rVert^2, \qquad
        \mathbb{E}[d_k] = 0 \text{ once the run is stationary}

    Every so many steps the mean is tested on the later half of the steps at the present rate, with
    a standard error from overlapping batch means, as successive changes are not independent. The
    run is stationary where 0 is in the confidence intervals of the first and second half of these
    and both means have the same sign; ``optimizer.lr_scale`` is then multiplied by ``factor``. It
    needs no validation data and no patience, and works for any rule. A rate that a schedule changes
    all the time is never stationary, so use it with a constant one, after a warm-up or not.

    Weights whose norm grows forever, as those of a classifier that separates its data and has no
    weight decay, are never stationary either, though the loss may hardly fall any more.

    Args:
        factor: what the rate is multiplied by, between 0 and 1.
        every: steps between two tests; more of them in a run of more than 128 times as many.
        least: steps that a test needs, at least 100; the first comes after twice as many.
        significance: one minus the level of the confidence intervals.
        min_lr: the rate is not lowered below this.

    Attributes:
        reduced: the steps after which the rate was lowered in this run.

    Sources: Lang, Xiao and Zhang 2019, arXiv:1909.09785 (SASA); the statistic for any rule and the
    test of both halves are those of the authors' code for SASA+, which keeps the latest eighth.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> rng, params = np.random.default_rng(0), np.ones(10)
        >>> def value_and_grad(p, batch):
        ...     return float(p @ p) / 2, p + rng.normal(size=10)
        >>> lower = ss.ReduceOnStationarity()
        >>> history = ss.fit(value_and_grad, params, ss.SGD(params, lr=0.1), [None] * 3000,
        ...                  epochs=1, callbacks=[lower], progress=False)
        >>> lower.reduced, history["lr"][[0, -1]].round(6).tolist()
        ([1100, 2100], [0.1, 0.001])
    """

    def __init__(
        self,
        *,
        factor: float = 0.1,
        every: int = 100,
        least: int = 500,
        significance: float = 0.05,
        min_lr: float = 0.0,
    ) -> None:
        owner = type(self).__name__
        self.factor = number(f"{owner}: factor", factor, 0.0, 1.0, low_open=True)
        self.every = whole(f"{owner}: every", every)
        self.least = whole(f"{owner}: least", least, 100)
        share = number(f"{owner}: significance", significance, 0.0, 1.0, low_open=True)
        self.min_lr = number(f"{owner}: min_lr", min_lr, 0.0)
        self.reduced: list[int] = []
        self._errors = NormalDist().inv_cdf(1 - share / 2)

    def on_start(self, run: Run) -> None:
        """Start anew."""
        if run.step == 0:
            self.reduced = []

    def on_step(self, run: Run) -> None:
        """Test if a test is due."""
        if run.step % self._stride(run.step) or run.step < 2 * self.least:
            return
        rate = run.history.at("lr", -1)
        if rate * self.factor < self.min_lr:
            return
        changes = _changes(run.history["param_norm"], run.history["lr"])
        later = changes[len(changes) // 2 :]
        if len(later) >= self.least and is_stationary(later, self._errors):
            run.optimizer.lr_scale *= self.factor
            self.reduced.append(run.step)

    def _stride(self, step: int) -> int:
        """Steps between tests, each of which reads the history: in proportion to a long run."""
        return self.every << max(0, (step // (TESTS * self.every)).bit_length() - 1)

    def state_dict(self) -> dict[str, Any]:
        """The steps at which the rate was lowered; the rest is in the history."""
        return {"reduced": list(self.reduced)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"reduced": states.each(states.count)}
        self.reduced = states.checked("ReduceOnStationarity", state, checks)["reduced"]


def _changes(norms: Curve, rates: Curve) -> Curve:
    """Changes of the squared norm by the steps at the present rate, as far as they are known."""
    other = np.flatnonzero((rates[:-1] != rates[-1]) | ~np.isfinite(norms[:-1]))
    first = int(other[-1]) + 1 if len(other) else 0
    return np.diff(norms[first:] ** 2)


def is_stationary(changes: Curve, errors: float) -> bool:
    """Whether both halves of the changes have a mean of 0, within so many standard errors."""
    spread = errors * _standard_error(changes)
    middle = len(changes) // 2
    one, other = float(changes[:middle].mean()), float(changes[middle:].mean())
    return max(abs(one), abs(other)) < spread and one * other > 0


def _standard_error(values: Curve) -> float:
    """Of the mean of values that depend on each other: by overlapping batch means."""
    count = len(values)
    size = math.isqrt(count)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    means = (sums[size:] - sums[:-size]) / size
    batches = count - size
    square = float(((means - values.mean()) ** 2).sum()) * size / (batches * (batches + 1))
    return math.sqrt(square)
