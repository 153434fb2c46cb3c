"""Variants of Adam with another denominator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, nonnegative, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import abs_, lerp, maximum, power, root, sign, squarable
from stepsize.optimizers.rules.adam import rectifier
from stepsize.optimizers.slots import signed, squares

__all__ = ["AdaBelief", "Adamax", "RAdam", "Yogi"]


def _move(x: Array, exp_avg: Array, second: Array, h: SimpleNamespace) -> None:
    """Adam's step, with both bias corrections."""
    step = h.lr / (1 - power(h.beta1, h.t))
    unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
    x -= step * exp_avg / (root(second) * unbias + h.eps)


class Adamax(Optimizer):
    r"""Adam with an infinity norm, the largest recent gradient, in place of the root mean square.

    .. math::
        g &\leftarrow g + \lambda x \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        u &\leftarrow \max(\beta_2 u, |g| + \epsilon) \\
        x &\leftarrow x - \frac{\eta}{1 - \beta_1^t} \frac{m}{u}

    State: two arrays (``exp_avg``, ``exp_inf``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added to the gradient's magnitude.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2. As torch.optim.Adamax; Keras adds
    :math:`\epsilon` to :math:`u` instead.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.Adamax(x, lr=0.1).step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(2e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"), squares("exp_inf"))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_inf[...] = maximum(h.beta2 * s.exp_inf, abs_(g) + h.eps)
        step = h.lr / (1 - power(h.beta1, h.t))
        x -= step * s.exp_avg / s.exp_inf


class RAdam(Optimizer):
    r"""Rectified Adam: plain momentum until the second moment has been estimated reliably.

    .. math::
        \rho_\infty &= \frac{2}{1 - \beta_2} - 1, \quad
            \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t} \\
        r_t &= \sqrt{\frac{(\rho_t - 4) (\rho_t - 2) \rho_\infty}
            {(\rho_\infty - 4) (\rho_\infty - 2) \rho_t}} \\
        x &\leftarrow x - \eta \frac{m}{1 - \beta_1^t} \cdot \begin{cases}
            r_t \sqrt{1 - \beta_2^t} / (\sqrt{v} + \epsilon) & \rho_t > 5 \\
            1 & \text{else} \end{cases}

    with the :math:`g`, :math:`m` and :math:`v` of `Adam`. State: two arrays (``exp_avg``,
    ``exp_avg_sq``). With :math:`\beta_2` from 0.9 to 0.999 the sixth step is the first that divides
    by the second moment; earlier steps are proportional to the gradient, so its scale matters
    there.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added before the bias correction.
        weight_decay: :math:`\lambda`, added to the gradient.
        decoupled_weight_decay: Apply the decay to the parameters, as in `AdamW`.

    Source: Liu et al. 2020, arXiv:1908.03265, Algorithm 2. As torch.optim.RAdam; optax and fastai
    add :math:`\epsilon` after the correction.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> opt = ss.RAdam(x, lr=0.1)
        >>> opt.step(np.array([0.5, -1.0]))
        >>> np.round(x, 4)
        array([ 0.95, -0.9 ])
    """

    lr = nonnegative(1e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    decoupled_weight_decay = flag()
    slots = (signed("exp_avg"), squares("exp_avg_sq"))

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled_weight_decay"] else "coupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        length, factor = rectifier(h.beta2, h.t)
        step = h.lr / (1 - power(h.beta1, h.t))
        if length > 5:
            step *= factor * math.sqrt(1 - power(h.beta2, h.t))
            x -= step * s.exp_avg / (root(s.exp_avg_sq) + h.eps)
        else:
            x -= step * s.exp_avg


class AdaBelief(Optimizer):
    r"""Adam that divides by the deviation of gradients from their exponential average.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        s &\leftarrow \beta_2 s + (1 - \beta_2) (g - m)^2 + \epsilon \\
        x &\leftarrow x - \frac{\eta}{1 - \beta_1^t}
            \frac{m}{\sqrt{s} / \sqrt{1 - \beta_2^t} + \epsilon}

    Steps are long where successive gradients agree, and short where they vary. State: two arrays
    (``exp_avg``, ``exp_avg_var``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added to the state at every step and to the root.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2. As optax.adabelief, and the authors'
    code with ``rectify=False``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> opt = ss.AdaBelief(x, lr=0.01)
        >>> for i in range(20):
        ...     opt.step(np.array([1.0, 1.0 + i % 2]))
        >>> x[0] < x[1]
        np.True_
    """

    lr = nonnegative(1e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-16)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"), squares("exp_avg_var"))
    decay = "decoupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        surprise = g - s.exp_avg
        s.exp_avg_var[...] = h.beta2 * s.exp_avg_var + (1 - h.beta2) * surprise * surprise + h.eps
        _move(x, s.exp_avg, s.exp_avg_var, h)


class Yogi(Optimizer):
    r"""Adam whose second moment changes by a bounded amount, so that steps cannot suddenly grow.

    .. math::
        g &\leftarrow g + \lambda x \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow v - (1 - \beta_2) \operatorname{sign}(v - g^2) g^2 \\
        x &\leftarrow x - \frac{\eta}{1 - \beta_1^t}
            \frac{m}{\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon}

    State: two arrays (``exp_avg``, ``exp_avg_sq``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`; the default is large on purpose.
        initial_accumulator: First value of :math:`m` and :math:`v`.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Zaheer et al. 2018, NeurIPS, Algorithm 2. As optax.yogi, which adds the bias
    corrections and starts both moments from ``initial_accumulator``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.Yogi(x, lr=0.1).step(np.array([100.0, -100.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(1e-2)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-3)
    initial_accumulator = nonnegative(1e-6, fixed=True)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"), squares("exp_avg_sq"))

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        return values["initial_accumulator"]

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        g = squarable(g)
        size = g * g
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_sq -= (1 - h.beta2) * sign(s.exp_avg_sq - size) * size
        _move(x, s.exp_avg, s.exp_avg_sq, h)
