"""Adam and its relatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, nonnegative, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, maximum, power, root
from stepsize.optimizers.slots import signed, squares

__all__ = ["Adam", "AdamW"]


def rectifier(beta2: float, t: int) -> tuple[float, float]:
    """RAdam's rectification of the second moment after ``t`` gradients.

    Returns the length of the equivalent simple average and the factor that rectifies the variance
    (0 up to a length of 4, where the variance does not exist). Liu et al. 2020, arXiv:1908.03265,
    section 4.
    """
    limit = 2 / (1 - beta2) - 1
    kept = power(beta2, t)
    length = limit - 2 * float(t) * kept / (1 - kept)
    if length <= 4:
        return length, 0.0
    ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
    return length, math.sqrt(ratio)


class Adam(Optimizer):
    r"""Adaptive moment estimation: an average of gradients over the root of one of their squares.

    .. math::
        g &\leftarrow g + \lambda x \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \hat v &= \max(\hat v, v) \text{ with AMSGrad, else } v \\
        x &\leftarrow x - \frac{\eta}{1 - \beta_1^t}
            \frac{m}{\sqrt{\hat v} / \sqrt{1 - \beta_2^t} + \epsilon}

    State: two arrays (``exp_avg``, ``exp_avg_sq``), a third (``max_exp_avg_sq``) with AMSGrad.
    :math:`t` counts the updates of each leaf. Early steps move each coordinate by about the
    learning rate, whatever the scale of the gradient. When :math:`\beta` follows a schedule, the
    bias correction uses its current value for all past steps, as torch does.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, added to the gradient.
        amsgrad: Divide by the largest second moment so far.
        decoupled_weight_decay: Apply the decay to the parameters, as in `AdamW`.

    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1; Reddi, Kale & Kumar 2018,
    arXiv:1904.09237, Algorithm 2. As torch.optim.Adam.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.Adam(x, lr=0.1).step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(1e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    by_row = True
    amsgrad = flag()
    decoupled_weight_decay = flag()
    later = ("decoupled_weight_decay",)
    slots = (signed("exp_avg"), squares("exp_avg_sq"))
    second_moment = "exp_avg_sq"

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        if values["amsgrad"]:
            return "AdamAMSGrad", (*cls.slots, squares("max_exp_avg_sq"))
        return "Adam", cls.slots

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled_weight_decay"] else "coupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        second = s.exp_avg_sq
        if hasattr(s, "max_exp_avg_sq"):
            s.max_exp_avg_sq[...] = maximum(s.max_exp_avg_sq, s.exp_avg_sq)
            second = s.max_exp_avg_sq
        step = h.lr / (1 - power(h.beta1, h.t))
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        x -= step * s.exp_avg / (root(second) * unbias + h.eps)


class AdamW(Adam):
    r"""Adam with decoupled weight decay, applied to the parameters and not to the gradient.

    .. math::
        x \leftarrow x (1 - \eta \lambda), \quad \text{then Adam's step with the plain gradient}

    State: as `Adam`. The decay follows the schedule of the rate.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`.
        amsgrad: Divide by the largest second moment so far.
        decoupled_weight_decay: False makes it `Adam`.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2. As torch.optim.AdamW.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.AdamW(x, lr=0.1, weight_decay=0.5).step(np.array([0.0, 0.0]))
        >>> x
        array([ 0.95, -0.95])
    """

    weight_decay = nonnegative(1e-2)
    decoupled_weight_decay = flag(True)
