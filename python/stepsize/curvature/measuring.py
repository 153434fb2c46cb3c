"""Measure the sharpness at a point: `sharpness`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from stepsize.arrays import (
    Array,
    Nest,
    Structure,
    ValueAndGrad,
    as_numpy,
    check_dtype,
    check_function,
    copy,
    flatten,
    refuse_complex,
    refuse_masked,
    value_and_grad_of,
)
from stepsize.curvature.critical import UpdateLine, critical_rate
from stepsize.curvature.lanczos import largest_eigenvalue
from stepsize.names import closed, refuse_unknown
from stepsize.optimizers import Optimizer
from stepsize.optimizers.transaction import alone
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.rng import rewinder
from stepsize.validation import as_loss, counted, number, whole

OWNER = "sharpness"
UNSURE = 0.05  # of the value, a residual above which is said


@dataclass(frozen=True)
class Sharpness:
    """What `sharpness` measured.

    Attributes:
        value: the sharpness. Times the rate it is above 2 where steps are unstable.
        critical_rate: ``2 / value``; along the optimizer's update the rate at which a step no
            longer lowers the loss, infinite where any does, 0 where none does.
        residual: by Lanczos, a bound on the distance to an eigenvalue; NaN along the update.
        method: "update" or "lanczos".
        gradients: calls of ``value_and_grad``.
        values: calls of ``loss``.
    """

    value: float
    critical_rate: float
    residual: float
    method: str
    gradients: int
    values: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        how = "along the update" if self.method == "update" else "of the Hessian"
        cost = counted(self.gradients, "gradient")
        cost += f" and {counted(self.values, 'loss')}" if self.values else ""
        if self.residual > UNSURE * abs(self.value):
            how += f" (not settled, residual {self.residual:.2g})"
        return f"sharpness {how} {self.value:.4g}, critical rate {self.critical_rate:.4g} ({cost})"


@closed
def sharpness(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batch: Any = None,
    *,
    optimizer: Optimizer | Wrapper | None = None,
    loss: Callable[[Nest, Any], Any] | None = None,
    guess: float | None = None,
    products: int = 30,
    tolerance: float = 1e-2,
    seed: int = 0,
    **unknown: NoReturn,
) -> Sharpness:
    r"""The curvature of the loss that bounds the rate, on one batch and on copies.

    With an optimizer, along its next update :math:`\Delta` (for a rate of 1): the critical rate is
    the smallest that no longer lowers the loss, and

    .. math::
        \eta_c = \min\{\eta > 0: L(x + \eta \Delta) > L(x)\}, \qquad \lambda_c = 2 / \eta_c

    It is found by doubling from ``guess`` and bisection, at the cost of one gradient and, from a
    guess within a factor of two, 4 losses; each further doubling is one more. For gradient descent
    on a quadratic it is between the Hessian's mean curvature along the gradient and its largest.

    Without one, the largest eigenvalue of the Hessian by Lanczos, with products from differences of
    gradients, at the cost of 2 gradients each:

    .. math::
        H v \approx \frac{g(x + h v) - g(x - h v)}{2 h}, \qquad
        h = \sqrt[3]{\epsilon} \, (1 + \lVert x \rVert) / \lVert v \rVert

    Parameters, optimizer and random generators come back bit for bit, also when the function
    raises. All calls of a function draw the same random numbers.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, as for `fit`.
        params: the parameters, of a real dtype; only copies of them are changed.
        batch: what the function gets.
        optimizer: the optimizer or wrapper of the run, with its state; None for Lanczos.
        loss: ``(params, batch) -> loss``, where that is cheaper than ``value_and_grad``.
        guess: the rate to start from, best an earlier ``critical_rate``; None is the optimizer's.
        products: of the Hessian at most.
        tolerance: of the eigenvalue, relative.
        seed: of the first vector of Lanczos.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
        RuntimeError: the optimizer is at work in another thread; nothing has been evaluated.

    Sources: Kalra et al. 2026, arXiv:2601.16979 (critical rate; they bisect to a sixteenth, here a
    parabola follows two bisections); Cohen et al. 2021, arXiv:2103.00065 (stability: the rate times
    the sharpness is at most 2).

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> def value_and_grad(p, batch):
        ...     return float(p @ (np.array([1.0, 4.0]) * p)) / 2, np.array([1.0, 4.0]) * p
        >>> print(ss.sharpness(value_and_grad, x))
        sharpness of the Hessian 4, critical rate 0.5 (4 gradients)
        >>> print(ss.sharpness(value_and_grad, x, optimizer=ss.SGD(x, lr=0.5)))
        sharpness along the update 3.824, critical rate 0.5231 (5 gradients)
    """
    refuse_unknown(sharpness, unknown)
    check_function("sharpness", value_and_grad)
    if loss is not None:
        check_function("sharpness", loss, "loss", "loss")
    most = whole("sharpness: products", products)
    number("sharpness: tolerance", tolerance, 0.0)
    seed = whole("sharpness: seed", seed, 0)
    if guess is not None:
        number("sharpness: guess", guess, 0.0, low_open=True)
    probe = Probe(value_and_grad, params, batch, loss)
    if optimizer is None:
        return _by_lanczos(probe, most, tolerance, seed)
    check_optimizer(OWNER, optimizer)
    try:
        with alone(OWNER, optimizer):
            start, grads = probe.gradient(params)
            _require_finite(start)
            line = UpdateLine(params, optimizer, grads, start)
            begin = guess or line.lr or 1.0
            if loss is not None:
                start = probe.value(params)  # of the function that the line is measured with
            rate, _ = critical_rate(line, probe.value, start, begin)
    finally:
        probe.rewind()
    value = 2 / rate if rate > 0 else math.inf
    return Sharpness(value, rate, math.nan, "update", probe.gradients, probe.values)


def check_optimizer(owner: str, optimizer: Any) -> None:
    """Refuse what has no update of its own to look along."""
    if not isinstance(optimizer, Optimizer | Wrapper):
        raise TypeError(
            f"{owner}: optimizer must be an optimizer of this package, such as "
            f"ss.SGD(params, lr=0.1), or None, got {optimizer!r:.80}"
        )
    if getattr(optimizer, "needs_closure", False):
        raise ValueError(
            f"{owner}: {type(optimizer).__name__} evaluates the function itself in its step, so "
            "its update is not known beforehand; leave optimizer out for the Hessian's"
        )


def _require_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"sharpness: the loss at params is {loss}; measure at parameters where it is finite"
        )


class Probe:
    """Calls on copies, all with the same random numbers, and their count."""

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        params: Nest,
        batch: Any,
        loss: Callable[[Nest, Any], Any] | None,
    ) -> None:
        self._function, self._loss, self._batch = value_and_grad, loss, batch
        self.params = params
        self.rewind = rewinder(value_and_grad, loss)
        self.gradients = 0
        self.values = 0

    def gradient(self, point: Nest) -> tuple[float, Nest]:
        """Loss and gradients."""
        self.rewind()
        self.gradients += 1
        at = copy(point)
        return value_and_grad_of(self._function, at, self._batch, owner=OWNER, state=True)

    def value(self, point: Nest) -> float:
        """The loss alone."""
        if self._loss is None:
            return self.gradient(point)[0]
        self.rewind()
        self.values += 1
        return as_loss(self._loss(copy(point), self._batch))


def _by_lanczos(probe: Probe, most: int, tolerance: float, seed: int) -> Sharpness:
    structure = Structure(probe.params)
    if not structure.leaves:
        raise ValueError("sharpness: params holds no array; give at least one")
    for path, leaf in zip(structure.paths, structure.leaves, strict=True):
        check_dtype(leaf, path, OWNER)
        cure = "Lanczos is for real parameters; give an optimizer to measure along its update"
        refuse_complex("sharpness", path, leaf.dtype, cure)
    start = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in structure.leaves])
    coarsest = max(float(_eps(leaf)) for leaf in structure.leaves)
    step = coarsest ** (1 / 3) * (1 + float(np.linalg.norm(start)))

    def gradient(at: Array) -> Any:
        point, place = copy(probe.params), 0
        for leaf in flatten(point)[0]:
            leaf[...] = at[place : place + leaf.size].reshape(leaf.shape)
            place += leaf.size
        loss, grads = probe.gradient(point)
        _require_finite(loss)
        parts = zip(structure.paths, structure.leaves, structure.flatten(grads), strict=True)
        found = []
        for path, leaf, g in parts:
            refuse_masked(OWNER, f"the gradient of {path}", g, "fill it, gradient.filled(0)")
            found.append(np.zeros(leaf.size) if g is None else np.ravel(as_numpy(g)))
        return np.concatenate(found, dtype=np.float64, casting="unsafe")

    def product(v: Array) -> Array:
        image: Array = (gradient(start + step * v) - gradient(start - step * v)) / (2 * step)
        return image

    try:
        value, residual, _ = largest_eigenvalue(product, start.size, most, tolerance, seed)
    finally:
        probe.rewind()
    rate = 2 / value if value > 0 else math.inf
    return Sharpness(value, rate, residual, "lanczos", probe.gradients, probe.values)


def _eps(leaf: Array) -> float:
    try:
        return float(np.finfo(leaf.dtype).eps)
    except ValueError:  # bfloat16 is no dtype of NumPy's own
        return 2.0**-7
