"""Factored second moments: one number per row, column or axis index instead of per element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import (
    Number,
    Several,
    Value,
    nonnegative,
    nonpositive,
    positive,
    unit,
)
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import (
    column_sums,
    lerp,
    maximum,
    minimum,
    root,
    row_sums,
    select,
    squarable,
    square,
    wide,
)
from stepsize.optimizers.slots import signed, squares

__all__ = ["SM3", "Adafactor"]

_AXES = 8  # the most axes of a leaf for SM3


class Adafactor(Optimizer):
    r"""Adam with a factored second moment, one row and one column, and a bounded update.

    .. math::
        R &\leftarrow R + t^{c} (\text{mean of } g^2 \text{ over columns} - R), \quad
        C \text{ likewise over rows}, \quad V = R C / \max(\text{mean } R, \epsilon_1) \\
        u &= g / \sqrt{\max(V, \epsilon_1^2)}, \quad
        \alpha = \max(\epsilon_2, \text{rms}(x)) \min(\eta, 1 / \sqrt t) \\
        x &\leftarrow x (1 - \eta \lambda) - \frac{\alpha}{\max(1, \text{rms}(u) / d)} u

    In leaves with two axes or more, the last two are factored; vectors keep the full second moment.
    State: ``row_var`` and ``col_var``, or ``variance``: m + n numbers for an m x n matrix. This is
    torch's form. Others differ: transformers adds :math:`\epsilon_1` to :math:`g^2`; optax factors
    the two longest axes, if both have 128 elements or more.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Upper bound :math:`\eta` of the relative rate.
        beta2_decay: :math:`c`, the exponent of the weight of a new squared gradient.
        eps: :math:`\epsilon_1` (0 or None for the machine epsilon of the dtype) and
            :math:`\epsilon_2`.
        d: The largest rms of an update.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5. As torch.optim.Adafactor.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.ones((200, 300), np.float32)}
        >>> opt = ss.Adafactor(params)
        >>> {name: slot.size for name, slot in opt.state["w"].items()}
        {'row_var': 200, 'col_var': 300}
    """

    lr = nonnegative(1e-2)
    beta2_decay = nonpositive(-0.8)
    eps: Any = Several(0.0, 1e-3, optional=True)
    d = positive(1.0)
    weight_decay = nonnegative(0.0)
    slots = (squares("row_var"), squares("col_var"), squares("variance"))
    scalars: ClassVar = {"rate": 0.0}
    shaped = True
    scope = "leaf"
    decay = "none"

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        if leaf.ndim < 2:
            return leaf.shape if slot == "variance" else None
        *front, rows, columns = leaf.shape
        return {"row_var": (*front, rows, 1), "col_var": (*front, 1, columns)}.get(slot)

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        g = squarable(g)
        fresh = real_power(float(h.t), h.beta2_decay)
        if hasattr(s, "variance"):
            s.variance[...] = lerp(s.variance, g * g, fresh)
            return square(wide(x)), square(wide(self._update(g, s, h)))
        rows, columns = g.shape[-2:]
        squares = square(wide(g))
        s.row_var[...] = lerp(s.row_var, (row_sums(squares) / columns).astype(x.dtype), fresh)
        s.col_var[...] = lerp(s.col_var, (column_sums(squares) / rows).astype(x.dtype), fresh)
        return row_sums(square(wide(x))), row_sums(square(wide(self._update(g, s, h))))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        size, length = root(sums[0] / sums[2]), root(sums[1] / sums[2])
        share = minimum(h.lr, 1 / root(float(h.t)))
        s.rate = maximum(h.eps2, size) * share / maximum(1.0, length / h.d)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        update = self._update(squarable(g), s, h)
        x *= 1 - h.lr * h.weight_decay
        x -= s.rate * update

    def _update(self, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        info, dtype = np.finfo(g.dtype), g.dtype.type
        tiny = h.eps1 or float(info.eps)
        if hasattr(s, "variance"):  # where the square is 0 in this dtype, 0 would be divided by it
            return g / root(maximum(dtype(tiny * tiny) or info.tiny, s.variance))
        rows = np.swapaxes(wide(s.row_var), -1, -2)
        middle = (row_sums(rows) / g.shape[-2]).astype(g.dtype)
        by_row = 1 / root(s.row_var / maximum(middle, dtype(tiny) or info.tiny))
        by_column = 1 / root(s.col_var)
        return g * minimum(dtype(min(1 / tiny, float(info.max))), by_row * by_column)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(s.rate)


class SM3(Optimizer):
    r"""Adagrad with factored sums of squares: one maximum for each index of each axis.

    .. math::
        \nu_i &= \beta_2 \min_r \mu_r(i_r) + (1 - \beta_2) g_i^2
            \quad (+ g_i^2 \text{ where } \beta_2 = 1) \\
        \mu_r(j) &= \max_{i_r = j} \nu_i \\
        m &\leftarrow \mu m + (1 - \mu) g / \sqrt{\nu + \epsilon} \quad (0 \text{ where } \nu = 0),
        \quad x \leftarrow x - \eta m

    State: the average (``exp_avg``) and, for each axis, one number per index (``axis0``, ``axis1``,
    ...): m + n numbers for an m x n matrix. Leaves may have at most eight axes. As optax.sm3.

    Args:
        params: A nest of float32 or float64 arrays, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`.
        beta2: :math:`\beta_2`, 1 for sums as in the paper.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, added to the gradient.

    Raises:
        ValueError: For a leaf of more than eight axes.

    Source: Anil et al. 2019, arXiv:1901.11150, Algorithm SM3-II.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"w": np.ones((2, 3))}
        >>> opt = ss.SM3(params, lr=0.1, momentum=0.0)
        >>> opt.step({"w": np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 5.0]])})
        >>> opt.state["w"]["axis0"].ravel(), np.round(params["w"], 2)[1]
        (array([ 1., 25.]), array([0.9, 0.9, 0.9]))
    """

    lr = nonnegative(1e-2)
    momentum = unit(0.9)
    beta2: Any = Number(1.0, high=1.0, high_open=False)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"), *(squares(f"axis{k}") for k in range(_AXES)))
    shaped = True

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        if leaf.ndim > _AXES:
            raise ValueError(f"SM3: a leaf has {leaf.ndim} axes; reshape it to at most {_AXES}")
        if slot == "exp_avg":
            return tuple(leaf.shape)
        axis = int(slot.removeprefix("axis"))
        if leaf.ndim == 0:
            return () if axis == 0 else None
        return _along(leaf.shape, axis) if axis < leaf.ndim else None

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        maxima = [getattr(s, f"axis{k}") for k in range(max(x.ndim, 1))]
        least: Any = maxima[0]
        for other in maxima[1:]:
            least = np.minimum(least, other)
        fresh = 1.0 if h.beta2 == 1 else 1 - h.beta2
        total = fresh * g * g + h.beta2 * least
        for k, kept in enumerate(maxima):
            others = tuple(axis for axis in range(x.ndim) if axis != k)
            kept[...] = total.max(axis=others, keepdims=True)
        nothing = x.dtype.type(0)
        update = select(total > 0, g / root(total + h.eps), nothing)
        s.exp_avg[...] = h.momentum * s.exp_avg + (1 - h.momentum) * update
        x -= h.lr * s.exp_avg


def _along(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(length if k == axis else 1 for k, length in enumerate(shape))
