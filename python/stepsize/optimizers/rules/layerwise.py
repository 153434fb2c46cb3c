"""Layer-wise rules: norms over a leaf set the length of its step."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.fields import flag, nonnegative, unit, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, power, root, square, wide
from stepsize.optimizers.slots import signed, squares

__all__ = ["LAMB", "LARS", "NovoGrad"]


def _trust(numerator: Any, denominator: Any) -> Any:
    return numerator / denominator if numerator > 0 and denominator > 0 else 1.0


class LARS(Optimizer):
    r"""Momentum with a trust ratio per leaf: the norm of the leaf over that of its gradient.

    .. math::
        r &= \kappa \frac{\|x\|}{\|g\| + \lambda \|x\| + \epsilon}
            \quad (1 \text{ where a norm is } 0) \\
        v &\leftarrow \mu v + r (g + \lambda x) \\
        x &\leftarrow x - \eta v \quad \text{or, Nesterov,} \quad
            x - \eta (r (g + \lambda x) + \mu v)

    Norms are taken per leaf. State: one array (``momentum_buffer``) and the trust ratio of each
    leaf. ``lr_effective`` is a dict, :math:`\eta r` by path. Biases and gains are commonly
    excluded: ``groups=[ss.group("*b", adapt=False, weight_decay=0.0)]``. The rate multiplies the
    momentum, as in timm; optax puts it into the buffer and divides by :math:`\|g + \lambda x\|`.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`, included in what the trust ratio scales.
        nesterov: Use Nesterov momentum.
        trust_coefficient: :math:`\kappa`.
        eps: :math:`\epsilon`.
        adapt: Whether to use the trust ratio; fixed at construction.

    Source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, 4.0])
        >>> opt = ss.LARS(x, lr=1.0, trust_coefficient=0.1)
        >>> opt.step(np.array([0.0, 0.01]))
        >>> np.round(x, 4)
        array([3. , 3.5])
    """

    lr = nonnegative(1.0)
    momentum = unit(0.9)
    weight_decay = nonnegative(0.0)
    nesterov = flag()
    trust_coefficient = nonnegative(1e-3)
    eps = nonnegative(1e-8)
    adapt = flag(True)
    slots = (signed("momentum_buffer"),)
    scalars: ClassVar = {"ratio": 1.0}
    scope = "leaf"
    decay = "none"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        return square(wide(x)), square(wide(g))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        size, slope = root(sums[0]), root(sums[1])
        below = slope + h.weight_decay * size + h.eps if slope > 0 else 0.0
        s.ratio = _trust(h.trust_coefficient * size, below) if h.adapt else 1.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        pull = s.ratio * (g + h.weight_decay * x)
        s.momentum_buffer[...] = h.momentum * s.momentum_buffer + pull
        ahead = pull + h.momentum * s.momentum_buffer
        x -= h.lr * (ahead if h.nesterov else s.momentum_buffer)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.ratio)


class LAMB(Optimizer):
    r"""Adam with a trust ratio per leaf: the norm of the leaf over that of its update.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        u &= \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + \lambda x \\
        x &\leftarrow x - \eta \frac{\|x\|}{\|u\|} u
            \quad (\text{the ratio is } 1 \text{ where a norm is } 0)

    Norms are taken per leaf. State: two arrays (``exp_avg``, ``exp_avg_sq``) and the trust ratio of
    each leaf. ``lr_effective`` is a dict by path. As in the paper and optax, the trust ratio also
    applies without weight decay, and gradients are not clipped. timm's defaults differ in both:
    ``clip_norm=1.0`` gives its clipping, ``adapt=False`` in a group turns the ratio off.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, included in :math:`u`.
        adapt: Whether to use the trust ratio; fixed at construction.

    Source: You et al. 2020, arXiv:1904.00962, Algorithm 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, 4.0])
        >>> opt = ss.LAMB(x, lr=0.1)
        >>> opt.step(np.array([1.0, 1.0]))
        >>> np.round(x, 4)
        array([2.6464, 3.6464])
    """

    lr = nonnegative(1e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-6)
    weight_decay = nonnegative(0.0)
    adapt = flag(True)
    slots = (signed("exp_avg"), squares("exp_avg_sq"))
    scalars: ClassVar = {"ratio": 1.0}
    scope = "leaf"
    decay = "none"

    def _direction(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        unbias1 = 1 / (1 - power(h.beta1, h.t))
        unbias2 = 1 / float(root(1 - power(h.beta2, h.t)))
        adam = s.exp_avg * unbias1 / (root(s.exp_avg_sq) * unbias2 + h.eps)
        return adam + h.weight_decay * x

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        s.exp_avg[...] = lerp(s.exp_avg, g, 1 - h.beta1)
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        return square(wide(x)), square(wide(self._direction(x, s, h)))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        s.ratio = _trust(root(sums[0]), root(sums[1])) if h.adapt else 1.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= (h.lr * s.ratio) * self._direction(x, s, h)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.ratio)


class NovoGrad(Optimizer):
    r"""Momentum of gradients that are normalized by a second moment per leaf.

    .. math::
        v &\leftarrow \beta_2 v + (1 - \beta_2) \|g\|^2 \quad (v = \|g\|^2 \text{ at first}) \\
        m &\leftarrow \beta_1 m + \frac{g}{\sqrt{v} + \epsilon} + \lambda x \\
        x &\leftarrow x - \eta m

    Norms are taken per leaf. State: one array (``exp_avg``) and one number per leaf.
    ``lr_effective`` is a dict by path, :math:`\eta / \sqrt v`. The momentum is a sum, not an
    average, so a rate has :math:`1 / (1 - \beta_1)` times the effect. The default betas of optax
    are 0.9 and 0.25.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, added inside the momentum.

    Source: Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> ss.NovoGrad(x, lr=0.1).step(np.array([30.0, 40.0]))
        >>> np.round(x, 4)
        array([0.94, 0.92])
    """

    lr = nonnegative(1e-2)
    betas = unit_pair(0.95, 0.98)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    slots = (signed("exp_avg"),)
    scalars: ClassVar = {"second": 0.0}
    scope = "leaf"
    decay = "none"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        return (square(wide(g)),)

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        s.second = sums[0] if h.t == 1 else h.beta2 * s.second + (1 - h.beta2) * sums[0]

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        size = float(root(s.second)) + h.eps
        s.exp_avg[...] = h.beta1 * s.exp_avg + (g / size + h.weight_decay * x)
        x -= h.lr * s.exp_avg

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr / root(s.second)) if s.second > 0 else float(h.lr)
