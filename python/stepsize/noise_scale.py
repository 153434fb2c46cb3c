"""Batch size and learning rate: how one scales with the other, and how large a batch is of use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from stepsize import arrays
from stepsize.schedules import Schedule
from stepsize.validation import choice, number, whole

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
    arXiv:2205.10287 (square root, for adaptive methods; `transfer` moves the others with it).

    Example:
        >>> scale_lr(0.1, 256, 1024), scale_lr(1e-3, 256, 1024, rule="sqrt")
        (0.4, 0.002)
    """
    if not isinstance(lr, Schedule):
        number("scale_lr: lr", lr, 0.0, move="it may also be a schedule")
    before = number("scale_lr: batch_from", batch_from, 0.0, low_open=True)
    after = number("scale_lr: batch_to", batch_to, 0.0, low_open=True)
    powers = {"linear": 1.0, "sqrt": 0.5}
    factor = float((after / before) ** powers[choice("scale_lr: rule", rule, powers)])
    if not 0 < factor < math.inf:
        raise ValueError(
            f"scale_lr: from batch_from={batch_from!r:.80} to batch_to={batch_to!r:.80} the "
            "rate would "
            f"change by a factor of {factor:g}"
        )
    return lr * factor


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
    batch_size = whole("gradient_noise_scale: batch_size", batch_size, most=2**53)
    if not isinstance(micro_grads, Iterable) or getattr(micro_grads, "ndim", 1) == 0:
        raise TypeError(
            "gradient_noise_scale: micro_grads must be an iterable of nests of gradients, got "
            f"{type(micro_grads).__name__}"
        )
    nests = [arrays.Structure(arrays.map_leaves(_kept, nest)) for nest in micro_grads]
    if nests and not nests[0].leaves:
        raise ValueError(
            "gradient_noise_scale: the nests of micro_grads hold no array; give gradients, as "
            "value_and_grad returns them"
        )
    for nest in nests:
        arrays.check_alike(nests[0], nest, "gradient_noise_scale")
    grads = [[arrays.view_as_real(leaf) for leaf in nest.leaves] for nest in nests]
    n = len(grads)
    if n < 2:
        raise ValueError(
            f"gradient_noise_scale: micro_grads: at least two gradients are needed, got {n}"
        )
    means: list[Any] = [
        np.mean(leaves, axis=0, dtype=np.float64) for leaves in zip(*grads, strict=True)
    ]
    squares = np.array([sum(map(arrays.sum_of_squares, leaves)) for leaves in grads])
    dots = np.array([sum(map(_dot, leaves, means)) for leaves in grads])
    square = sum(map(arrays.sum_of_squares, means))
    # The mean without gradient i has the squared norm |n G - g_i|^2 / (n - 1)^2.
    without = (n * n * square - 2 * n * dots + squares) / (n - 1) ** 2
    others = (squares.sum() - squares) / (n - 1)
    signal, noise = signal_and_noise(square, squares.mean(), n, batch_size)
    left_out = [
        noise_ratio(*signal_and_noise(float(s), float(m), n - 1, batch_size))
        for s, m in zip(without, others, strict=True)
        if n > 2
    ]
    return with_interval(signal, noise, left_out)


def _kept(leaf: Any) -> Any:
    cure = "fill it, gradient.filled(0)"
    arrays.refuse_masked("gradient_noise_scale", "an array of micro_grads", leaf, cure)
    return np.array(leaf)


def _dot(a: Any, b: Any) -> float:
    return float(np.vdot(np.asarray(a, np.float64), b))


def signal_and_noise(
    square: float, mean_square: float, n: int, batch_size: float
) -> tuple[float, float]:
    """Signal and noise from the squared norm of the mean and the mean squared norm."""
    signal = (n * square - mean_square) / (n - 1)
    noise = batch_size * n / (n - 1) * (mean_square - square)
    return float(signal), float(noise)


def noise_ratio(signal: float, noise: float) -> float:
    return noise / signal if signal > 0 else math.inf


def with_interval(signal: float, noise: float, left_out: Sequence[float]) -> NoiseScale:
    """The ratio, with an interval from what it is when each part is left out in turn."""
    ratio = noise_ratio(signal, noise)
    low, high = 0.0, math.inf
    if len(left_out) > 2 and all(0 < value < math.inf for value in (ratio, *left_out)):
        logs = np.log(left_out)
        n = len(logs)
        error = math.sqrt((n - 1) / n * float(((logs - logs.mean()) ** 2).sum()))
        low, high = ratio * math.exp(-1.96 * error), ratio * math.exp(1.96 * error)
    return NoiseScale(ratio, low, high, signal, noise)
