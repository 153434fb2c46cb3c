"""Variants of Adam with another form of momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.elementary import exp2, log2, real_power
from stepsize.optimizers.fields import Value, flag, nonnegative, unit_pair, unit_triple
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, power, root
from stepsize.optimizers.slots import signed, squares

__all__ = ["AdEMAMix", "Adan", "NAdam", "NAdamW"]


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum, which has a warm-up schedule of its own.

    .. math::
        \mu_t &= \beta_1 (1 - \tfrac12 0.96^{t \psi}), \quad \Pi_t = \mu_1 \cdots \mu_t \\
        x &\leftarrow x - \eta \left( \frac{1 - \mu_t}{1 - \Pi_t} g +
            \frac{\mu_{t+1}}{1 - \Pi_t \mu_{t+1}} m \right)
            \Big/ \left( \frac{\sqrt{v}}{\sqrt{1 - \beta_2^t}} + \epsilon \right)

    with the :math:`g`, :math:`m` and :math:`v` of `Adam`. State: two arrays (``exp_avg``,
    ``exp_avg_sq``) and the number :math:`\Pi` for each leaf.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, added to the gradient.
        momentum_decay: :math:`\psi`, the speed of the momentum's warm-up.
        decoupled_weight_decay: Apply the decay to the parameters, as in `AdamW`.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam", Algorithm 2. As
    torch.optim.NAdam; Keras uses :math:`\psi = 1`, optax a constant :math:`\mu`.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.NAdam(x, lr=0.1).step(np.array([1.0, -1.0]))
        >>> np.round(x, 4)
        array([ 0.8944, -0.8944])
    """

    lr = nonnegative(2e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    momentum_decay = nonnegative(4e-3)
    decoupled_weight_decay = flag()
    slots = (signed("exp_avg"), squares("exp_avg_sq"))
    second_moment = "exp_avg_sq"
    scalars = {"mu_product": 1.0}  # noqa: RUF012

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        return "NAdam", cls.slots

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled_weight_decay"] else "coupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        mu = h.beta1 * (1 - 0.5 * real_power(0.96, h.t * h.momentum_decay))
        ahead = h.beta1 * (1 - 0.5 * real_power(0.96, (h.t + 1) * h.momentum_decay))
        s.mu_product *= mu
        step_grad = h.lr * (1 - mu) / (1 - s.mu_product)
        step_avg = h.lr * ahead / (1 - s.mu_product * ahead)
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        x -= (step_grad * g + step_avg * s.exp_avg) / (root(s.exp_avg_sq) * unbias + h.eps)


class NAdamW(NAdam):
    r"""NAdam with decoupled weight decay, applied to the parameters and not to the gradient.

    .. math::
        x \leftarrow x (1 - \eta \lambda), \quad \text{then NAdam's step with the plain gradient}

    State: as `NAdam`.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`.
        momentum_decay: :math:`\psi`, the speed of the momentum's warm-up.
        decoupled_weight_decay: False makes it `NAdam`.

    Source: Dozat 2016, Algorithm 2, with the decay of Loshchilov & Hutter 2019, arXiv:1711.05101.
    As torch.optim.NAdam with ``decoupled_weight_decay=True``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.NAdamW(x, lr=0.1, weight_decay=0.5).step(np.array([0.0, 0.0]))
        >>> x
        array([ 0.95, -0.95])
    """

    weight_decay = nonnegative(1e-2)
    decoupled_weight_decay = flag(True)


class Adan(Optimizer):
    r"""Adam with Nesterov momentum, estimated from an average of gradient differences.

    .. math::
        d &= g - g_{last} \quad (0 \text{ at the first step}) \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        u &\leftarrow \beta_2 u + (1 - \beta_2) d \\
        n &\leftarrow \beta_3 n + (1 - \beta_3) (g + \beta_2 d)^2 \\
        x &\leftarrow \frac{1}{1 + \eta \lambda} \left( x - \eta
            \frac{\hat m + \beta_2 \hat u}{\sqrt{\hat n} + \epsilon} \right)

    where a hat is the bias correction, a division by :math:`1 - \beta^t`. State: four arrays
    (``exp_avg``, ``exp_avg_diff``, ``exp_avg_sq``, ``last_grad``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1, \beta_2, \beta_3` as in the authors' code: 1 minus the paper's.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, proximal.
        no_prox: Shrink by :math:`1 - \eta \lambda` before the step instead, as in `AdamW`.

    Source: Xie et al. 2022, arXiv:2208.06677, Algorithm 1. As the authors' code and timm; optax
    weights the difference by :math:`1 - \beta_2`, 0.08 instead of 0.92.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.Adan(x, lr=0.1).step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(1e-3)
    betas = unit_triple(0.98, 0.92, 0.99)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    no_prox = flag()
    slots = (signed("exp_avg"), signed("exp_avg_diff"), squares("exp_avg_sq"), signed("last_grad"))

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["no_prox"] else "none"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        diff = g - s.last_grad if h.t > 1 else np.zeros_like(g)
        ahead = g + h.beta2 * diff
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_diff[...] = lerp(s.exp_avg_diff, diff, 1 - h.beta2)
        s.exp_avg_sq[...] = h.beta3 * s.exp_avg_sq + (1 - h.beta3) * ahead * ahead
        step = h.lr / (1 - power(h.beta1, h.t))
        step_diff = h.lr * h.beta2 / (1 - power(h.beta2, h.t))
        unbias = 1 / math.sqrt(1 - power(h.beta3, h.t))
        grow = 1.0 if h.no_prox else 1 + h.lr * h.weight_decay
        move = step * s.exp_avg + step_diff * s.exp_avg_diff
        x[...] = (x - move / (root(s.exp_avg_sq) * unbias + h.eps)) / grow
        s.last_grad[...] = g


class AdEMAMix(Optimizer):
    r"""Adam with a second, much slower exponential average of gradients.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        m_1 &\leftarrow \beta_1 m_1 + (1 - \beta_1) g, \quad
        m_2 \leftarrow \beta_{3,t} m_2 + (1 - \beta_{3,t}) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        x &\leftarrow x - \eta \frac{m_1 / (1 - \beta_1^t) + \alpha_t m_2}
            {\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon} \\
        \alpha_t &= \min(t / T_\alpha, 1) \alpha, \quad
        \frac{1}{\ln \beta_{3,t}} = \frac{1 - t / T_\beta}{\ln \beta_1} + \frac{t / T_\beta}
            {\ln \beta_3} \text{ until } T_\beta

    Early in training the slow average is unreliable: warm up :math:`\alpha` and :math:`\beta_3`
    over the whole run. State: three arrays (``exp_avg``, ``exp_avg_slow``, ``exp_avg_sq``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1, \beta_2, \beta_3`; the third is that of the slow average.
        alpha: :math:`\alpha`, the weight of the slow average.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, decoupled from the gradient.
        alpha_warmup: :math:`T_\alpha`, steps over which :math:`\alpha` grows from 0; 0 means none.
        beta3_warmup: :math:`T_\beta`, steps over which :math:`\beta_3` grows from
            :math:`\beta_1`, with a half-life that grows linearly; 0 means none.

    Source: Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1, with the default
    :math:`\alpha` of optax and bitsandbytes.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.AdEMAMix(x, lr=0.1, alpha_warmup=100).step(np.array([0.001, -1000.0]))
        >>> np.round(x, 4)
        array([ 0.9, -0.9])
    """

    lr = nonnegative(1e-3)
    betas = unit_triple(0.9, 0.999, 0.9999)
    alpha = nonnegative(5.0)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    alpha_warmup = nonnegative(0.0)
    beta3_warmup = nonnegative(0.0)
    slots = (signed("exp_avg"), signed("exp_avg_slow"), squares("exp_avg_sq"))
    second_moment = "exp_avg_sq"
    decay = "decoupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        alpha, beta3 = h.alpha, h.beta3
        if h.t < h.alpha_warmup:
            alpha = h.t * h.alpha / h.alpha_warmup
        if h.t < h.beta3_warmup:
            share = h.t / h.beta3_warmup
            start, end = (sum(log2(max(beta, 1e-300))) for beta in (h.beta1, h.beta3))
            inverse = (1 - share) / start + share / end
            beta3 = min(exp2((1 / inverse, 0.0)), h.beta3)
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_slow[...] = lerp(s.exp_avg_slow, g, 1 - beta3)
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        step = h.lr / (1 - power(h.beta1, h.t))
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        move = step * s.exp_avg + (h.lr * alpha) * s.exp_avg_slow
        x -= move / (root(s.exp_avg_sq) * unbias + h.eps)
