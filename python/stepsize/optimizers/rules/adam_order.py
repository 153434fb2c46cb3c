"""Variants of Adam that normalize the gradient first and average it afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, nonnegative, positive, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import clamp, lerp, maximum, power, root
from stepsize.optimizers.slots import signed, squares

__all__ = ["ADOPT", "LaProp"]


class ADOPT(Optimizer):
    r"""Adam that normalizes a gradient by earlier ones only, so that it converges for any beta2.

    .. math::
        n &= \operatorname{clip} \left( \frac{g}{\max(\sqrt{v}, \epsilon)},
            \pm (t - 1)^{1/4} \right) \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) n \\
        x &\leftarrow x - \eta m \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \quad (g^2 \text{ at the first step})

    The first step only initializes the second moment; the parameters do not move. State: two arrays
    (``exp_avg``, ``exp_avg_sq``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, the smallest divisor.
        weight_decay: :math:`\lambda`, added to the gradient.
        decouple: Shrink the parameters by :math:`1 - \eta \lambda` instead, from the second step
            on.
        use_clipping: Whether to clip the quotient; without clipping, early steps can be very long.

    Source: Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 2, with the authors' clipping.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> opt = ss.ADOPT(x, lr=0.1)
        >>> opt.step(np.array([0.001, -1000.0]))
        >>> opt.step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.99, -0.99])
    """

    lr = nonnegative(1e-3)
    betas = unit_pair(0.9, 0.9999)
    eps = positive(1e-6)
    weight_decay = nonnegative(0.0)
    decouple = flag()
    use_clipping = flag(True)
    slots = (signed("exp_avg"), squares("exp_avg_sq"))

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "none" if values["decouple"] else "coupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        first = h.t == 1
        limit = math.sqrt(math.sqrt(h.t - 1)) if h.use_clipping or first else math.inf
        normed = clamp(g / maximum(root(s.exp_avg_sq), x.dtype.type(h.eps)), limit)
        s.exp_avg[...] = lerp(s.exp_avg, normed, 1 - h.beta1)
        pull = h.lr * h.weight_decay if h.decouple and not first else 0.0
        x[...] = x - pull * x - h.lr * s.exp_avg
        fresh = 1.0 if first else 1 - h.beta2
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + fresh * g * g


class LaProp(Optimizer):
    r"""Adam that averages normalized gradients, so that momentum does not mix their scales.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        m &\leftarrow \beta_1 m + (1 - \beta_1)
            \frac{g}{\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon} \\
        x &\leftarrow x - \frac{\eta}{1 - \beta_1^t} m

    State: two arrays (``exp_avg``, ``exp_avg_sq``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`; either may be the larger one.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1. The authors' code multiplies by
    the rate inside the average; with a constant rate the result is the same.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.LaProp(x, lr=0.1).step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(4e-4)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-15)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"), squares("exp_avg_sq"))
    decay = "decoupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        normed = g / (root(s.exp_avg_sq) * unbias + h.eps)
        s.exp_avg[...] = lerp(s.exp_avg, normed, 1 - h.beta1)
        x -= h.lr / (1 - power(h.beta1, h.t)) * s.exp_avg
