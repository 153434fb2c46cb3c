"""Polyak step sizes: the gap between the loss and its lower bound sets the rate."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.fields import flag, nonnegative, real, unit, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import maximum, minimum, power, root, square, wide
from stepsize.optimizers.slots import signed, squares

__all__ = ["MoMo", "MoMoAdam", "PolyakSGD"]


class PolyakSGD(Optimizer):
    r"""SGD with the Polyak step size, which would reach the smallest value of a linear loss.

    .. math::
        x \leftarrow x - s \min\left(\frac{f(x) - f_{\min}}{\|g\|^2 + \epsilon}, \eta\right) g

    The norm is taken over all leaves together; where :math:`\|g\|^2 + \epsilon` is below 2.2e-16
    the step is 0. ``step(grads, loss=...)`` needs the loss. State: one number. ``lr_effective`` is
    what multiplies the gradient. As optax's polyak_sgd, whose code, unlike its formula, takes the
    norm of the scaled gradient.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: The largest rate :math:`\eta`.
        scaling: :math:`s`.
        f_min: The smallest value that the loss can take, 0 for most losses.
        eps: :math:`\epsilon`.
        positive: Treat a loss below ``f_min`` as ``f_min`` (SPS+); otherwise such a step goes
            uphill.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Loizou et al. 2021, arXiv:2002.10542, equation 4; SPS+, Garrigos, Gower & Schaipp 2023,
    arXiv:2307.14528.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> opt = ss.PolyakSGD(x)
        >>> opt.step(2 * x, loss=(x**2).sum())
        >>> x, opt.lr_effective
        (array([0.5, 1. , 1.5]), 0.25)
    """

    lr = nonnegative(1.0)
    scaling = nonnegative(1.0)
    f_min = real(0.0)
    eps = nonnegative(0.0)
    positive = flag()
    weight_decay = nonnegative(0.0)
    scalars: ClassVar = {"polyak": 0.0}
    adapts_lr = True
    scope = "all"
    needs_loss = True

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        return (square(wide(g)),)

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        gap = h.loss - h.f_min
        below = sums[0] + h.eps
        top = maximum(gap, 0.0) if h.positive else gap
        s.polyak = top / below if below > 2.220446049250313e-16 else 0.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= self.effective(s, h) * g

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.scaling * minimum(s.polyak, h.lr))


def _model_loss(
    s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float], fresh: float, unbias: float
) -> None:
    """Average the loss, and find the rate at which its model meets the lower bound.

    Schaipp et al. 2024, arXiv:2305.07583: equation 9 for the step, section 4.1 for the lower bound.
    """
    s.loss_average = (1 - fresh) * s.loss_average + fresh * h.loss
    s.product_average = (1 - fresh) * s.product_average + fresh * sums[0]
    widen = 1 + h.lr * h.weight_decay
    bound = maximum(s.lower_bound, h.lb)
    cap = widen * (s.loss_average - s.product_average) + sums[1]
    if h.use_fstar and cap < widen * unbias * bound:
        bound = maximum(cap / (2 * widen * unbias), h.lb)
    s.polyak = maximum(cap - widen * unbias * bound, 0.0) / sums[2] if sums[2] > 0 else 0.0
    tau = minimum(s.polyak, h.lr / unbias)
    here = s.loss_average + sums[1] - s.product_average
    raised = maximum((here - tau * sums[2] / 2) / unbias, h.lb)
    s.lower_bound = raised if h.use_fstar else bound
    s.unbias = unbias


class MoMo(Optimizer):
    r"""Momentum with a Polyak step size: an averaged model of the loss reaches its lower bound.

    .. math::
        m &\leftarrow \beta m + (1 - \beta) g, \quad
        \bar f \leftarrow \beta \bar f + (1 - \beta) f(x), \quad
        \gamma \leftarrow \beta \gamma + (1 - \beta) \langle g, x \rangle \\
        \tau &= \min\left(\eta, \frac{\max((1 + \eta\lambda)(\bar f - f_* - \gamma)
            + \langle m, x \rangle, 0)}{\|m\|^2}\right) \\
        x &\leftarrow (x - \tau m) / (1 + \eta\lambda)

    Sums are taken over all leaves together; the averages start at the first :math:`g`, :math:`f`
    and :math:`\langle g, x \rangle`. ``step(grads, loss=...)`` needs the loss. State: one array
    (``grad_avg``) and five numbers. ``lr_effective`` is :math:`\tau`. With groups of different
    rates, the model is that of the first group, and each group bounds the step by its own rate. The
    whole step is divided by :math:`1 + \eta\lambda`, as in the authors' package; optax divides the
    parameters alone.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: The largest rate :math:`\eta`.
        beta: :math:`\beta`.
        weight_decay: :math:`\lambda`, by a proximal step.
        lb: :math:`f_*`, a lower bound of the loss.
        bias_correction: Start the averages at 0 and correct their bias instead.
        use_fstar: Estimate a higher :math:`f_*` during training.

    Source: Schaipp et al. 2024, arXiv:2305.07583, Algorithm 1. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> opt = ss.MoMo(x)
        >>> opt.step(2 * x, loss=(x**2).sum())
        >>> x
        array([0.5, 1. , 1.5])
    """

    lr = nonnegative(1.0)
    beta = unit(0.9)
    weight_decay = nonnegative(0.0)
    lb = real(0.0)
    bias_correction = flag()
    use_fstar = flag()
    adapts_lr = True
    slots = (signed("grad_avg"),)
    scalars: ClassVar = {
        "loss_average": 0.0,
        "product_average": 0.0,
        "lower_bound": -1e308,
        "polyak": 0.0,
        "unbias": 1.0,
    }
    scope = "all"
    decay = "none"
    needs_loss = True

    def _shares(self, h: SimpleNamespace) -> tuple[float, float]:
        """The weight of a new gradient in the average, and the weight of all so far."""
        if h.bias_correction:
            return 1 - h.beta, 1 - power(h.beta, h.t)
        return (1.0 if h.t == 1 else 1 - h.beta), 1.0

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        fresh, _ = self._shares(h)
        kept = 0.0 if fresh == 1 else h.beta
        s.grad_avg[...] = kept * s.grad_avg + fresh * g
        average = wide(s.grad_avg)
        return wide(g) * wide(x), average * wide(x), square(average)

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        _model_loss(s, h, sums, *self._shares(h))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x[...] = (x - self.effective(s, h) * s.grad_avg) / (1 + h.lr * h.weight_decay)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(minimum(s.polyak, h.lr / s.unbias))


class MoMoAdam(Optimizer):
    r"""Adam with a Polyak step size: an averaged model of the loss reaches its lower bound.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        D = \sqrt{v / (1 - \beta_2^t)} + \epsilon \\
        \tau &= \min\left(\frac{\eta}{1 - \beta_1^t}, \frac{\max((1 + \eta\lambda)(\bar f
            - (1 - \beta_1^t) f_* - \gamma) + \langle m, x \rangle, 0)}
            {\langle m, m / D \rangle}\right) \\
        x &\leftarrow (x - \tau m / D) / (1 + \eta\lambda)

    The averages :math:`\bar f` of the loss and :math:`\gamma` of :math:`\langle g, x \rangle` use
    :math:`\beta_1`; sums are taken over all leaves together. ``step(grads, loss=...)`` needs the
    loss. State: two arrays (``grad_avg``, ``grad_avg_sq``) and five numbers. ``lr_effective`` is
    :math:`\tau`. Groups and weight decay act as in `MoMo`.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: The largest rate :math:`\eta`.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, by a proximal step.
        lb: :math:`f_*`, a lower bound of the loss.
        use_fstar: Estimate a higher :math:`f_*` during training.

    Source: Schaipp et al. 2024, arXiv:2305.07583, Algorithm 2. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> opt = ss.MoMoAdam(x)
        >>> opt.step(2 * x, loss=(x**2).sum())
        >>> np.round(x, 4)
        array([0.99, 1.99, 2.99])
    """

    lr = nonnegative(1e-2)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    lb = real(0.0)
    use_fstar = flag()
    adapts_lr = True
    slots = (signed("grad_avg"), squares("grad_avg_sq"))
    scalars: ClassVar = MoMo.scalars
    scope = "all"
    decay = "none"
    needs_loss = True

    def _scaled(self, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        unbias2 = 1 / float(root(1 - power(h.beta2, h.t)))
        return s.grad_avg / (root(s.grad_avg_sq) * unbias2 + h.eps)

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        s.grad_avg[...] = h.beta1 * s.grad_avg + (1 - h.beta1) * g
        s.grad_avg_sq[...] = h.beta2 * s.grad_avg_sq + (1 - h.beta2) * g * g
        average = wide(s.grad_avg)
        return wide(g) * wide(x), average * wide(x), average * wide(self._scaled(s, h))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        _model_loss(s, h, sums, 1 - h.beta1, 1 - power(h.beta1, h.t))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x[...] = (x - self.effective(s, h) * self._scaled(s, h)) / (1 + h.lr * h.weight_decay)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(minimum(s.polyak, h.lr / s.unbias))
