"""Rules that precondition each axis of a leaf by a matrix: Shampoo and SOAP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, count, flag, nonnegative, positive, unit, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import (
    clamp,
    cube_root,
    eigen,
    lerp,
    maximum,
    orthonormal,
    power,
    product,
    root,
    squaring_scale,
)
from stepsize.optimizers.slots import signed, squares

__all__ = ["SOAP", "Shampoo"]

AXES = 4  # the most axes that get a matrix


def gram_of(g: Array, axis: int) -> Any:
    """The Gram matrix of the slices of ``g`` along an axis."""
    rows = np.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
    return product(rows, rows.T)


def turn(g: Any, matrix: Array, axis: int) -> Any:
    """The product of the matrix with an axis of ``g``."""
    moved = np.moveaxis(g, axis, 0)
    found = product(matrix, moved.reshape(len(matrix), -1))
    return np.moveaxis(found.reshape(moved.shape), 0, axis)


def _axes_of(leaf: Array, max_dim: int) -> list[int]:
    """The axes that get a matrix."""
    return [k for k in range(min(leaf.ndim, AXES)) if 1 < leaf.shape[k] <= max_dim]


def _seen(leaf: Array, values: Mapping[str, Value]) -> Array:
    """The leaf as the rule sees it: with ``flatten``, in no more than two axes."""
    return (
        leaf.reshape(len(leaf), -1) if values["flatten"] and leaf.ndim > 2 and leaf.size else leaf
    )


class _ByAxis(Optimizer, abstract=True):
    """Base of the rules that keep two matrices for each axis of at most ``max_dim``."""

    max_dim: Any
    whole: tuple[str, ...]
    shaped = True
    by_matrix = True

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        if slot in self.whole:
            return tuple(leaf.shape)
        axis, seen = int(slot[-1]), _seen(leaf, values)
        if axis not in _axes_of(seen, values["max_dim"]):
            return None
        return (seen.shape[axis], seen.shape[axis])


class Shampoo(_ByAxis):
    r"""Precondition each axis by an inverse root of the summed Gram matrices of gradients.

    .. math::
        L &\leftarrow L + g g^T, \quad R \leftarrow R + g^T g
            \quad (L_0, R_0 = \epsilon I) \\
        u &= L^{-1/4} g R^{-1/4}, \quad m \leftarrow \mu m + (1 - \mu) u, \quad
        x \leftarrow x - \eta m

    With k preconditioned axes the power is :math:`-1 / 2k`: -1/2 for vectors. Axes longer than
    ``max_dim``, and the fifth and later ones, are not preconditioned. State: the average
    (``momentum_buffer``) and two matrices for each axis (``gram0``, ``root0``, ...), 2 (m² + n²)
    numbers for an m x n matrix. Eigenvectors are computed in double precision.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`.
        eps: :math:`\epsilon`; fixed at construction.
        weight_decay: :math:`\lambda`, added to the gradient.
        precondition_frequency: Steps between two computations of the roots.
        max_dim: Longest axis that gets a matrix.
        flatten: Leaves of three axes or more as matrices of their first axis and the rest, as
            kernels of convolutions are; else each axis gets a matrix.
        stacked: How many first axes count matrices, each updated as a leaf of its own: 1 for
            layers in one array of (layers, rows, columns), 2 for (layers, heads, rows, columns).

    Source: Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithms 1 and 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.diag([1.0, 1.0])
        >>> opt = ss.Shampoo(x, lr=0.5, eps=1e-12)
        >>> opt.step(np.diag([100.0, 0.01]))
        >>> np.round(x, 3)
        array([[0.5, 0. ],
               [0. , 0.5]])
    """

    lr = nonnegative(1e-1)
    momentum = unit(0.0)
    eps = positive(1e-4, fixed=True)
    weight_decay = nonnegative(0.0)
    precondition_frequency = count(1)
    max_dim = count(2048)
    flatten = flag(False)
    stacked = count(None)
    later = ("flatten", "stacked")
    whole = ("momentum_buffer",)
    slots = (
        signed("momentum_buffer"),
        *(signed(f"gram{k}") for k in range(AXES)),
        *(signed(f"root{k}") for k in range(AXES)),
    )

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        length = _seen(leaf, values).shape[int(slot[-1])] if slot[:4] == "gram" else 0
        return np.eye(length) * values["eps"] if length else 0.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        axes = _axes_of(x, h.max_dim)
        update: Any = g * squaring_scale(g) if axes else g
        scaled = update
        for axis in axes:
            gram, inverse = getattr(s, f"gram{axis}"), getattr(s, f"root{axis}")
            most = float(np.finfo(gram.dtype).max) / len(gram)
            gram[...] = clamp(gram + gram_of(scaled, axis), most)
            if (h.t - 1) % h.precondition_frequency == 0:
                inverse[...] = _inverse_root(gram, 2 * len(axes))
            update = turn(update, inverse, axis)
        s.momentum_buffer[...] = h.momentum * s.momentum_buffer + (1 - h.momentum) * update
        x -= h.lr * s.momentum_buffer


def _inverse_root(gram: Array, order: int) -> Any:
    """The positive definite matrix to the power -1 / order."""
    if not np.all(np.isfinite(gram)):
        return np.full_like(gram, np.nan)
    values, vectors = eigen(gram)
    floor = float(np.finfo(gram.dtype).eps) * max(float(values[-1]), 0.0)
    power = root(maximum(values, max(floor * 1e-3, 1e-300)))
    if order == 6:
        power = cube_root(power)
    elif order >= 4:
        power = root(power)
    if order == 8:
        power = root(power)
    half = vectors * (1 / root(power))
    return product(half, half.T)


class SOAP(_ByAxis):
    r"""Adam in the eigenbases of Shampoo's matrices.

    .. math::
        L &\leftarrow \beta_2 L + (1 - \beta_2) g g^T, \quad
        R \leftarrow \beta_2 R + (1 - \beta_2) g^T g, \quad
        Q_L, Q_R \text{ their eigenvectors} \\
        g' &= Q_L^T g Q_R, \quad m \leftarrow \beta_1 m + (1 - \beta_1) g', \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g'^2 \\
        x &\leftarrow x - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
            Q_L \frac{m}{\sqrt v + \epsilon} Q_R^T, \quad x \leftarrow x (1 - \eta \lambda)

    The first step only computes the bases and moves no parameter, and :math:`t` counts from the
    second step, as in the authors' code. Every ``precondition_frequency`` steps the bases are
    improved by one power iteration and a QR decomposition. Axes longer than ``max_dim``, and the
    fifth and later ones, are not rotated. Vectors are not rotated either, so their rule is Adam.
    State: two arrays (``exp_avg``, ``exp_avg_sq``) and two matrices for each axis (``gram0``,
    ``basis0``, ...).

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, decoupled from the gradient.
        precondition_frequency: Steps between two improvements of the bases.
        max_dim: Longest axis that gets a matrix.
        flatten: Leaves of three axes or more as matrices of their first axis and the rest, as
            kernels of convolutions are; else each axis gets a matrix.
        stacked: How many first axes count matrices, each updated as a leaf of its own: 1 for
            layers in one array of (layers, rows, columns), 2 for (layers, heads, rows, columns).

    Source: Vyas et al. 2024, arXiv:2409.11321, Algorithm 3. As the authors' code.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([[3.0, 1.0], [1.0, -2.0]])
        >>> opt = ss.SOAP(x, lr=0.05)
        >>> for _ in range(300):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 0.1)
        True
    """

    lr = nonnegative(3e-3)
    betas = unit_pair(0.95, 0.95)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.01)
    precondition_frequency = count(10)
    max_dim = count(10_000)
    flatten = flag(False)
    stacked = count(None)
    later = ("flatten", "stacked")
    whole = ("exp_avg", "exp_avg_sq")
    slots = (
        signed("exp_avg"),
        squares("exp_avg_sq"),
        *(signed(f"gram{k}") for k in range(AXES)),
        *(signed(f"basis{k}") for k in range(AXES)),
    )
    decay = "none"

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        if leaf.ndim < 2 and slot not in self.whole:
            return None
        return super().slot_shape(slot, leaf, values)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        axes = [k for k in range(min(x.ndim, AXES)) if hasattr(s, f"gram{k}")]
        grams = [getattr(s, f"gram{k}") for k in axes]
        bases = [getattr(s, f"basis{k}") for k in axes]
        g = g * squaring_scale(g) if axes else g
        if h.t == 1:
            for axis, gram, basis in zip(axes, grams, bases, strict=True):
                gram[...] = (1 - h.beta2) * gram_of(g, axis)
                basis[...] = _eigenvectors(gram)
            return
        seen: Any = g
        for axis, basis in zip(axes, bases, strict=True):
            seen = turn(seen, basis.T, axis)
        s.exp_avg[...] = h.beta1 * s.exp_avg + (1 - h.beta1) * seen
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * seen * seen
        update = s.exp_avg / (root(s.exp_avg_sq) + h.eps)
        for axis, basis in zip(axes, bases, strict=True):
            update = turn(update, basis, axis)
        t = h.t - 1
        x -= h.lr * math.sqrt(1 - power(h.beta2, t)) / (1 - power(h.beta1, t)) * update
        x *= 1 - h.lr * h.weight_decay
        for axis, gram in zip(axes, grams, strict=True):
            gram[...] = lerp(gram, gram_of(g, axis), 1 - h.beta2)
        if t % h.precondition_frequency == 0:
            _improve(s, axes, grams, bases)


def _eigenvectors(gram: Array) -> Any:
    """Eigenvectors in descending order of their eigenvalues."""
    if not np.all(np.isfinite(gram)):
        return np.eye(len(gram))
    tilted = gram.astype(np.float64)
    np.fill_diagonal(tilted, tilted.diagonal() + 1e-30)
    return eigen(tilted)[1][:, ::-1]


def _improve(s: SimpleNamespace, axes: list[int], grams: list[Array], bases: list[Array]) -> None:
    """One power iteration for each basis; the averages are rotated into the new bases."""
    average: Any = s.exp_avg
    for axis, gram, basis in zip(axes, grams, bases, strict=True):
        average = turn(average, basis, axis)
        if not np.all(np.isfinite(gram)):
            average = turn(average, basis.T, axis)
            continue
        turned = product(gram, basis)
        values = product(np.ones((1, len(gram)), gram.dtype), basis * turned)[0]
        order = np.argsort(-values, kind="stable")
        s.exp_avg_sq[...] = np.take(s.exp_avg_sq, order, axis=axis)
        basis[...] = orthonormal(turned[:, order])
        average = turn(average, basis.T, axis)
    s.exp_avg[...] = average
