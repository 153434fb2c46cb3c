"""PSGD-Kron: a whitening preconditioner with one factor per axis, fitted by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import Choice, Number, Value, count, nonnegative, unit
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import (
    power,
    product,
    random_normal,
    solve_turned,
    sum_of_squares,
)
from stepsize.optimizers.rules.matrix import AXES, gram_of, turn
from stepsize.optimizers.slots import signed

__all__ = ["Kron"]

_TINY = 2.0**-126


def _annealed(t: int) -> float:
    """The authors' update probability of the preconditioner, which decays from 1 to 0.03."""
    return min(1.0, max(0.03, real_power(math.e, 0.001 * (500 - t))))


def _triangular(shape: Sequence[int], values: Mapping[str, Value]) -> list[bool]:
    """For each axis, whether its factor is triangular; otherwise it is diagonal."""
    mode, most = values["memory_save_mode"], values["max_size_triangular"]
    if mode == "all_diag" or len(shape) < values["min_ndim_triangular"]:
        return [False] * len(shape)
    found = [1 < length <= most for length in shape]
    *_, second, longest = [0, *np.argsort(shape, kind="stable")]
    if mode == "one_diag" or (mode == "smart_one_diag" and shape[second] < shape[longest]):
        found[longest] = False
    return found


class Kron(Optimizer):
    r"""Whiten the momentum with a Kronecker-factored preconditioner, one factor per axis.

    .. math::
        m &\leftarrow \mu m + (1 - \mu) g, \quad \hat m = m / (1 - \mu^t), \quad
        v \sim \mathcal N(0, I) \\
        A &= Q_1 \hat m\, Q_2^T, \quad B = Q_1^{-T} v\, Q_2^{-1} \\
        Q_1 &\leftarrow Q_1 - \rho\, \text{triu}(A A^T - B B^T) Q_1 / \|A A^T + B B^T\|, \quad
        Q_2 \text{ likewise} \\
        u &= Q_1^T Q_1 \hat m\, Q_2^T Q_2, \quad
        x \leftarrow x - \eta \left( \min\left(1, \frac{1.1}{\text{rms}(u)}\right) u
            + \lambda x \right)

    The factors converge to values for which the covariance of :math:`u` is the identity. They are
    fitted in a fraction of the updates, which falls from 1 after 500 steps to 0.03 after 4,000, and
    balanced at every hundredth fit. The random :math:`v` depends on :math:`t` alone, so a resumed
    run draws the same; a number of it counts 64 random bits, which is near to normal. The fifth and
    later axes have no factor; a factor that becomes singular, as with a ``precond_lr`` of 1 or
    more, makes the update NaN. Good rates are about a third of Adam's. State: the average
    (``momentum_buffer``), for each axis a triangular matrix or a diagonal (``q0``, ``q1``, ...), up
    to m² + n² numbers for an m x n matrix, and two numbers.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`, which the authors call b1.
        weight_decay: :math:`\lambda`, for leaves of two axes or more.
        preconditioner_update_probability: The fraction of updates that fit the factors; None for
            the one that falls.
        precond_lr: :math:`\rho`.
        max_size_triangular: Longest axis that gets a triangular factor.
        min_ndim_triangular: Fewest axes of a leaf that gets triangular factors.
        memory_save_mode: Which further factors are diagonal: None, "smart_one_diag" (the longest
            axis, if there is one), "one_diag" (the longest or last), "all_diag".

    Source: Li 2018, arXiv:1809.10232; Pooladzandi & Li 2024, arXiv:2402.04553. As kron_torch and
    timm's Kron, except for their random draws.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([[3.0, 1.0], [1.0, -2.0]])
        >>> opt = ss.Kron(x, lr=0.01)
        >>> for _ in range(500):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 0.1)
        True
    """

    lr = nonnegative(1e-3)
    momentum = unit(0.9)
    weight_decay = nonnegative(0.0)
    preconditioner_update_probability: Any = Number(None, high=1.0, high_open=False)
    precond_lr = nonnegative(0.1)
    max_size_triangular = count(8192)
    min_ndim_triangular = count(2)
    memory_save_mode: Any = Choice(None, "smart_one_diag", "one_diag", "all_diag")
    slots = (signed("momentum_buffer"), *(signed(f"q{k}") for k in range(AXES)))
    scalars: ClassVar = {"waited": 0.0, "fits": 0.0}
    shaped = True
    decay = "none"

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        if slot == "momentum_buffer":
            return tuple(leaf.shape)
        axis, shape = int(slot[-1]), leaf.shape or (1,)
        if axis >= len(shape):
            return None
        return (shape[axis],) * (2 if _triangular(shape, values)[axis] else 1)

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        shape = self.slot_shape(slot, leaf, values)
        if slot == "momentum_buffer" or shape is None:
            return 0.0
        return np.eye(shape[0]) if len(shape) == 2 else 1.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.momentum_buffer[...] = h.momentum * s.momentum_buffer + (1 - h.momentum) * g
        seen: Any = (s.momentum_buffer / (1 - power(h.momentum, h.t))).reshape(x.shape or (1,))
        factors = [getattr(s, f"q{k}") for k in range(min(seen.ndim, AXES))]
        share = getattr(h, "preconditioner_update_probability", _annealed(h.t - 1))
        s.waited += 1
        # Without a gradient there is nothing to whiten, and the factors would grow without bound.
        if share > 0 and s.waited >= 1 / share and np.any(g):
            s.waited, s.fits = 0.0, s.fits + 1
            if s.fits % 100 == 0:
                _balance(factors)
            noise = random_normal(h.t, seen.size, x.dtype.type).reshape(seen.shape)
            _fit(factors, seen, noise, h.precond_lr)
        for axis, q in enumerate(factors):
            seen = _times(q.T, _times(q, seen, axis), axis)
        length = math.sqrt(sum_of_squares(seen) / seen.size)
        update = (min(1.0, 1.1 / (length + 1e-8)) * seen).reshape(x.shape)
        if x.ndim > 1:
            update += h.weight_decay * x
        x -= h.lr * update


def _fit(factors: list[Array], g: Array, v: Array, rate: float) -> None:
    """One gradient step of the factors, so that the whitened g has the covariance of v."""
    a, b = g, v
    for axis, q in enumerate(factors):
        a, b = _times(q, a, axis), _solved(q, b, axis)
    # The scale cancels: no square may overflow.
    size = max(_top(a), _top(b)) + _TINY
    a, b = a / size, b / size
    for axis, q in enumerate(factors):
        if q.ndim == 1:
            one, two = _squares(a, axis), _squares(b, axis)
            q -= rate * (one - two) * q / (_top(one + two) + _TINY)
        else:
            one, two = gram_of(a, axis), gram_of(b, axis)
            q -= rate * product(np.triu(one - two), q) / (_norm(one + two) + _TINY)


def _times(q: Array, g: Array, axis: int) -> Any:
    """The factor applied to ``g`` along an axis."""
    return g * _along(q, g, axis) if q.ndim == 1 else turn(g, q, axis)


def _solved(q: Array, g: Array, axis: int) -> Any:
    """The inverse transpose of the factor applied to ``g`` along an axis."""
    if q.ndim == 1:
        return g / _along(q, g, axis)
    rows = np.moveaxis(g, axis, 0)
    if not np.all(np.isfinite(q)) or not np.all(q.diagonal()):
        return np.full_like(g, np.nan)
    solved = solve_turned(q, rows.reshape(len(q), -1))
    return np.moveaxis(solved.reshape(rows.shape), 0, axis)


def _along(q: Array, g: Array, axis: int) -> Array:
    return q.reshape([-1 if k == axis else 1 for k in range(g.ndim)])


def _squares(g: Array, axis: int) -> Any:
    """The sums of the squares of the slices of ``g`` along an axis."""
    rows = np.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
    return product(rows * rows, np.ones((rows.shape[1], 1), g.dtype))[:, 0]


def _norm(a: Array) -> Any:
    """A lower bound of the largest eigenvalue, by one power iteration from the longest column."""
    top = _top(a)
    if not 0 < top < np.inf:
        return top
    a = a / top
    longest = np.argmax(_squares(a, 1))
    x = product(a[longest : longest + 1], a)
    x = x / a.dtype.type(math.sqrt(sum_of_squares(x)))
    return top * a.dtype.type(math.sqrt(sum_of_squares(product(x, a))))


def _top(a: Array) -> Any:
    return np.max(np.abs(a))


def _balance(factors: list[Array]) -> None:
    """Rescale the factors to the same largest element; their product does not change."""
    tops = [float(_top(q)) for q in factors]
    if not all(0 < top < math.inf for top in tops):
        return
    middle = math.prod(real_power(top, 1 / len(tops)) for top in tops)
    for q, top in zip(factors, tops, strict=True):
        q *= middle / top
