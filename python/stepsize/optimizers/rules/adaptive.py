"""Adaptive rules, which divide by a statistic of squared past gradients."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, nonnegative, unit
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, maximum, root, select
from stepsize.optimizers.slots import exact, signed, squares

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(Optimizer):
    r"""Divide each coordinate's step by the root of the sum of its squared gradients.

    .. math::
        g &\leftarrow g + \lambda x \quad \text{or, decoupled,} \quad
            x \leftarrow x (1 - \eta \lambda) \\
        S &\leftarrow S + g^2 \\
        x &\leftarrow x - \frac{\eta}{1 + (t - 1) \kappa} \frac{g}{\sqrt{S} + \epsilon}

    Rare features keep large steps. The sum only grows, so the effective rate decays towards 0 in
    long runs. State: one array (``sum``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        lr_decay: :math:`\kappa`.
        weight_decay: :math:`\lambda`, added to the gradient.
        initial_accumulator_value: First value of :math:`S`.
        eps: :math:`\epsilon`, outside the root.
        decoupled: Apply the decay to the parameters instead, as in `AdamW`.

    Source: Duchi, Hazan & Singer 2011, JMLR 12, Figure 1, diagonal form. As torch.optim.Adagrad.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> ss.Adagrad(x, lr=0.5).step(np.array([0.01, 100.0]))
        >>> np.round(x, 6)
        array([0.5, 0.5])
    """

    lr = nonnegative(1e-2)
    lr_decay = nonnegative(0.0)
    weight_decay = nonnegative(0.0)
    by_row = True
    initial_accumulator_value = nonnegative(0.0, fixed=True)
    eps = nonnegative(1e-10)
    decoupled = flag()
    slots = (squares("sum"),)

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled"] else "coupled"

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        return values["initial_accumulator_value"]

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.sum += g * g
        lr = h.lr / (1 + float(h.t - 1) * h.lr_decay)
        x -= lr * g / (root(s.sum) + h.eps)


class RMSprop(Optimizer):
    r"""Divide each coordinate's step by the root of a running mean of its squared gradients.

    .. math::
        g &\leftarrow g + \lambda x \quad \text{or, decoupled,} \quad
            x \leftarrow x (1 - \eta \lambda) \\
        v &\leftarrow \alpha v + (1 - \alpha) g^2 \\
        m &\leftarrow \alpha m + (1 - \alpha) g \quad \text{(centered)} \\
        d &= \sqrt{v} + \epsilon \quad \text{or} \quad \sqrt{\max(v - m^2, 0)} + \epsilon \\
        b &\leftarrow \mu b + g / d \quad \text{(momentum)} \\
        x &\leftarrow x - \eta g / d \quad \text{or} \quad x - \eta b

    State: one array (``square_avg``), one more (``grad_avg``) if centered, one more
    (``momentum_buffer``) with momentum.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        alpha: :math:`\alpha`, the decay of the running means.
        eps: :math:`\epsilon`, outside the root.
        weight_decay: :math:`\lambda`, added to the gradient.
        momentum: :math:`\mu`.
        centered: Divide by the standard deviation instead of the root mean square.
        decoupled: Apply the decay to the parameters instead, as in `AdamW`.

    Source: Tieleman & Hinton 2012, lecture 6.5; Graves 2013, arXiv:1308.0850, equations 38 to 41.
    As torch.optim.RMSprop, except that rounding can make its centered root NaN.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> ss.RMSprop(x, lr=0.1, alpha=0.75).step(np.array([0.01, 100.0]))
        >>> np.round(x, 5)
        array([0.8, 0.8])
    """

    lr = nonnegative(1e-2)
    alpha = unit(0.99)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    momentum = nonnegative(0.0)
    centered = flag()
    decoupled = flag()

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled"] else "coupled"

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        kernel, slots = "RMSprop", [squares("square_avg")]
        if values["centered"]:
            kernel += "Centered"
            slots.append(exact("grad_avg"))
        if values["momentum"] != 0:
            kernel += "Momentum"
            slots.append(signed("momentum_buffer"))
        return kernel, tuple(slots)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.square_avg[...] = h.alpha * s.square_avg + (1 - h.alpha) * g * g
        second = s.square_avg
        if hasattr(s, "grad_avg"):
            s.grad_avg[...] = lerp(s.grad_avg, g, 1 - h.alpha)
            variance = maximum(second - s.grad_avg * s.grad_avg, x.dtype.type(0))
            second = select(second <= np.finfo(x.dtype).max, variance, second)
        size = root(second) + h.eps
        if hasattr(s, "momentum_buffer"):
            s.momentum_buffer[...] = h.momentum * s.momentum_buffer + g / size
            x -= h.lr * s.momentum_buffer
        else:
            x -= h.lr * g / size


class Adadelta(Optimizer):
    r"""Divide by the root mean square of gradients and multiply by that of past updates.

    .. math::
        g &\leftarrow g + \lambda x \\
        v &\leftarrow \rho v + (1 - \rho) g^2 \\
        \delta &= \frac{\sqrt{u + \epsilon}}{\sqrt{v + \epsilon}} g \\
        u &\leftarrow \rho u + (1 - \rho) \delta^2 \\
        x &\leftarrow x - \eta \delta

    The update has the unit of the parameter, so a rate of 1 is the paper's method. The first
    updates are about :math:`\sqrt{\epsilon}` and grow from there. State: two arrays
    (``square_avg``, ``acc_delta``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        rho: :math:`\rho`, the decay of both running means.
        eps: :math:`\epsilon`, inside both roots.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Zeiler 2012, arXiv:1212.5701, Algorithm 1. As torch.optim.Adadelta; Keras has a default
    rate of 0.001, which makes every step a thousand times smaller.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> ss.Adadelta(x, rho=0.75).step(np.array([1.0, 1000.0]))
        >>> np.round(1 - x, 6)
        array([0.002, 0.002])
    """

    lr = nonnegative(1.0)
    rho = unit(0.9)
    eps = nonnegative(1e-6)
    weight_decay = nonnegative(0.0)
    slots = (squares("square_avg"), squares("acc_delta"))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.square_avg[...] = h.rho * s.square_avg + (1 - h.rho) * g * g
        delta = root(s.acc_delta + h.eps) / root(s.square_avg + h.eps) * g
        s.acc_delta[...] = h.rho * s.acc_delta + (1 - h.rho) * delta * delta
        x -= h.lr * delta
