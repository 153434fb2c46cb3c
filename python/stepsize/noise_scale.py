"""Batch size and learning rate: how one scales with the other, and how large a batch is of use."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stepsize import arrays
from stepsize.schedules import Schedule
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run

Rate = TypeVar("Rate", float, Schedule)


def scale_lr(lr: Rate, batch_from: float, batch_to: float, rule: str = "linear") -> Rate:
    """The rate for another batch size than the one it was found with.

    ``lr * batch_to / batch_from`` (linear), for SGD below its critical batch size, or
    ``lr * sqrt(batch_to / batch_from)``, for Adam and its kin.

    Args:
        lr: a number or a schedule.
        batch_from: the batch size that ``lr`` is right for.
        batch_to: the batch size to come.
        rule: ``"linear"`` or ``"sqrt"``.

    Sources: Goyal et al. 2017, arXiv:1706.02677, section 2.1 (linear); Malladi et al. 2022,
    arXiv:2205.10287 (square root, for adaptive methods).

    Example:
        >>> scale_lr(0.1, 256, 1024), scale_lr(1e-3, 256, 1024, rule="sqrt")
        (0.4, 0.002)
    """
    if not isinstance(lr, Schedule) and not 0 <= lr < math.inf:
        raise ValueError(f"scale_lr: lr must be a finite number >= 0 or a schedule, got {lr!r}")
    for name, size in (("batch_from", batch_from), ("batch_to", batch_to)):
        if not 0 < size < math.inf:
            raise ValueError(f"scale_lr: {name} must be a finite number above 0, got {size!r}")
    powers = {"linear": 1.0, "sqrt": 0.5}
    if rule not in powers:
        raise ValueError(f"scale_lr: rule must be 'linear' or 'sqrt', got {rule!r}")
    return lr * float((batch_to / batch_from) ** powers[rule])


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """How noisy gradients are, as a batch size.

    Attributes:
        critical_batch: the batch size at which noise and signal are equal, ``variance /
            grad_square``. Well below it, twice the batch does the work of two steps; well above it,
            a larger batch is wasted. Infinite where the noise drowns the signal altogether.
        low, high: an approximate 95 % interval for it, by the jackknife.
        grad_square: the squared norm of the true gradient, estimated without bias.
        variance: the trace of the covariance of one sample's gradient, estimated without bias.
    """

    critical_batch: float
    low: float
    high: float
    grad_square: float
    variance: float

    def __str__(self) -> str:
        return (
            f"critical batch size {self.critical_batch:.3g} "
            f"(95 % between {self.low:.3g} and {self.high:.3g})"
        )


def gradient_noise_scale(micro_grads: Iterable[arrays.Nest], batch_size: int) -> NoiseScale:
    """Estimate the critical batch size from the gradients of several small batches at one point.

    With n gradients g of batches of size b and their mean G::

        grad_square = (n |G|^2 - mean |g|^2) / (n - 1)
        variance    = b n / (n - 1) (mean |g|^2 - |G|^2)

    Args:
        micro_grads: at least two nests of gradients, all for the same parameters. They are kept in
            memory together.
        batch_size: samples in each of them.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1 (B_simple).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> grads = [{"w": np.ones(100) + rng.normal(size=100)} for _ in range(64)]
        >>> print(gradient_noise_scale(grads, batch_size=8))
        critical batch size 7.96 (95 % between 7.47 and 8.48)
    """
    batch_size = whole("gradient_noise_scale: batch_size", batch_size)
    nests = [arrays.Structure(arrays.map_leaves(np.array, nest)) for nest in micro_grads]
    for nest in nests:
        arrays.check_alike(nests[0], nest, "gradient_noise_scale")
    grads = [nest.leaves for nest in nests]
    n = len(grads)
    if n < 2:
        raise ValueError(f"gradient_noise_scale: at least two gradients are needed, got {n}")
    means: list[Any] = [
        np.mean(leaves, axis=0, dtype=np.float64) for leaves in zip(*grads, strict=True)
    ]
    squares = np.array([sum(map(arrays.sum_of_squares, leaves)) for leaves in grads])
    dots = np.array([sum(map(_dot, leaves, means)) for leaves in grads])
    square = sum(map(arrays.sum_of_squares, means))
    # The mean without gradient i has the squared norm |n G - g_i|^2 / (n - 1)^2.
    without = (n * n * square - 2 * n * dots + squares) / (n - 1) ** 2
    others = (squares.sum() - squares) / (n - 1)
    signal, noise = _moments(square, squares.mean(), n, batch_size)
    left_out = [
        _ratio(*_moments(float(s), float(m), n - 1, batch_size))
        for s, m in zip(without, others, strict=True)
        if n > 2
    ]
    return _estimate(signal, noise, left_out)


def _dot(a: Any, b: Any) -> float:
    return float(np.vdot(np.asarray(a, np.float64), b))


def _moments(square: float, mean_square: float, n: int, batch_size: float) -> tuple[float, float]:
    """Signal and noise from the squared norm of the mean and the mean squared norm."""
    signal = (n * square - mean_square) / (n - 1)
    noise = batch_size * n / (n - 1) * (mean_square - square)
    return float(signal), float(noise)


def _ratio(signal: float, noise: float) -> float:
    return noise / signal if signal > 0 else math.inf


def _estimate(signal: float, noise: float, left_out: Sequence[float]) -> NoiseScale:
    """The ratio, with an interval from what it is when each part is left out in turn."""
    ratio = _ratio(signal, noise)
    low, high = 0.0, math.inf
    if len(left_out) > 2 and all(0 < value < math.inf for value in (ratio, *left_out)):
        logs = np.log(left_out)
        n = len(logs)
        error = math.sqrt((n - 1) / n * float(((logs - logs.mean()) ** 2).sum()))
        low, high = ratio * math.exp(-1.96 * error), ratio * math.exp(1.96 * error)
    return NoiseScale(ratio, low, high, signal, noise)


class NoiseScaleMonitor:
    """Record the critical batch size during a run that accumulates gradients.

    It needs ``fit(..., accumulate=n)`` with n of at least 2 and arrays to train on, and costs two
    norms per step. After each of so many steps ``history["critical_batch"]`` gets the estimate over
    the last ``window`` steps, signal and noise averaged apart.

    Args:
        window: how many steps to average over.
        every: how often to record.

    Attributes:
        estimate: the latest `NoiseScale`, None before the first.
    """

    needs_micro_squares = True

    def __init__(self, window: int = 100, every: int = 10):
        if window < 3 or every < 1:
            raise ValueError(
                f"NoiseScaleMonitor: window must be at least 3 and every at least 1, got "
                f"{window} and {every}"
            )
        self.every = every
        self.estimate: NoiseScale | None = None
        self._moments: deque[tuple[float, float]] = deque(maxlen=window)

    def on_start(self, run: Run) -> None:
        """Refuse a run that shows no small batches."""
        if run.accumulate < 2:
            raise ValueError("NoiseScaleMonitor: give fit accumulate=2 or more to compare with")
        _ = run.batch_size
        if run.step == 0:
            self._moments.clear()

    def on_gradients(self, run: Run) -> None:
        """Compare the small batches with their mean."""
        n = len(run.micro_squares)
        if n < 2:
            return
        square = sum(map(arrays.sum_of_squares, arrays.flatten(run.grads)[0]))
        mean_square = math.fsum(run.micro_squares) / n
        self._moments.append(_moments(square, mean_square, n, run.batch_size))

    def on_step(self, run: Run) -> None:
        """Record, if it is time to."""
        if run.step % self.every or not self._moments:
            return
        moments = np.array(self._moments)
        n, total = len(moments), moments.sum(axis=0)
        left_out = [_ratio(*map(float, (total - row) / (n - 1))) for row in moments if n > 1]
        self.estimate = _estimate(float(total[0] / n), float(total[1] / n), left_out)
        run.history.record("critical_batch", self.estimate.critical_batch)

    def state_dict(self) -> dict[str, Any]:
        """Signal and noise of the last steps."""
        return {"moments": [list(pair) for pair in self._moments]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._moments.clear()
        self._moments.extend((signal, noise) for signal, noise in state["moments"])
