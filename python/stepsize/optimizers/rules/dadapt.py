"""D-Adaptation: rules that find their rate from an estimate of the distance to the solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, growth, nonnegative, positive, unit, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import (
    abs_,
    lerp,
    maximum,
    minimum,
    power,
    root,
    square,
    wide,
)
from stepsize.optimizers.slots import exact, signed, squares

__all__ = ["DAdaptAdam", "DAdaptSGD"]


def estimate(kept: Any, d0: float) -> Any:
    """The distance estimate, which is d0 before the first step."""
    return kept if kept > 0 else d0


def scaled_rate(h: SimpleNamespace, size: float) -> float:
    """The rate of a rule of Adam's kind at this distance estimate."""
    corrected = float(root(1 - power(h.beta2, h.t))) / (1 - power(h.beta1, h.t))
    return float(size * h.lr * (corrected if h.use_bias_correction else 1.0))


class DAdaptSGD(Optimizer):
    r"""Learning-rate-free SGD: its rate follows a lower bound on the distance to the solution.

    .. math::
        \gamma &= \eta d / \|g_0\|, \quad
        r \leftarrow r + \gamma \langle g, s \rangle, \quad s \leftarrow s + \gamma g \\
        d &\leftarrow \max(d, \min(2 r / \|s\|, d \cdot \text{growth})) \\
        x &\leftarrow \mu x + (1 - \mu) (x_0 - s)

    Norms and products are taken over all leaves together. State: two arrays (``start``, the point
    :math:`x_0`, and ``sum``, which is :math:`s`) and four numbers. ``lr_effective`` is
    :math:`\gamma`. Groups may have different factors :math:`\eta`; the authors' package refuses
    that, and leaves weight decay out of :math:`\|g_0\|`.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`: 1, or a schedule relative to 1.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`, added to the gradient.
        d0: The first :math:`d`; any value far below the distance works.
        growth_rate: The largest factor by which :math:`d` may grow in one step. Without a bound
            :math:`d` may grow until a network is unstable; the authors advise 1.02 there, best with
            ``momentum=0.9``.

    Source: Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 4. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.DAdaptSGD(x)
        >>> for _ in range(200):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 1e-3)
        True
    """

    lr = nonnegative(1.0)
    momentum = unit(0.0)
    weight_decay = nonnegative(0.0)
    d0 = positive(1e-6, fixed=True)
    growth_rate = growth()
    adapts_lr = True
    slots = (exact("start"), signed("sum"))
    scalars: ClassVar = {"d": 0.0, "numerator": 0.0, "slope": 0.0, "fresh": 0.0}
    scope = "all"

    def _pull(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(estimate(s.d, h.d0) * h.lr / s.slope) if s.slope > 0 else 0.0

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        if h.t == 1:
            s.start[...] = x
        pull = self._pull(s, h)
        along = pull * (wide(g) * wide(s.sum))
        s.sum += pull * g
        return along, square(wide(s.sum)), square(wide(g))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        s.fresh = 0.0 if s.slope > 0 else 1.0
        s.slope = s.slope if s.slope > 0 else root(sums[2])
        s.numerator = s.numerator + sums[0]
        known = estimate(s.d, h.d0)
        found = 2 * s.numerator / root(sums[1]) if sums[1] > 0 else 0.0
        s.d = maximum(known, minimum(found, known * h.growth_rate))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if s.fresh != 0:
            s.sum += self._pull(s, h) * g
        x[...] = lerp(x, s.start - s.sum, 1 - h.momentum)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.d / s.slope) if s.slope > 0 else 0.0


class DAdaptAdam(Optimizer):
    r"""Learning-rate-free Adam: its rate follows a lower bound on the distance to the solution.

    .. math::
        \gamma &= \eta d, \quad r \leftarrow \sqrt{\beta_2}\, r + (1 - \sqrt{\beta_2})\,
            \gamma \langle g, s / (\sqrt v + \epsilon) \rangle \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) \gamma g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        s \leftarrow \sqrt{\beta_2}\, s + (1 - \sqrt{\beta_2}) \gamma g \\
        d &\leftarrow \max\left(d, \min\left(\frac{r}{(1 - \sqrt{\beta_2}) \|s\|_1},
            d \cdot \text{growth}\right)\right) \\
        x &\leftarrow x - m / (\sqrt v + \epsilon)

    Sums are taken over all leaves together. State: three arrays (``exp_avg``, ``exp_avg_sq``,
    ``sum``, which is :math:`s`) and three numbers. ``lr_effective`` is :math:`\eta d`. Groups may
    have different factors :math:`\eta`; the authors' package refuses that. optax always corrects
    the bias; here, as in the authors' package, that is an option.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`: 1, or a schedule relative to 1.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, added to the gradient.
        decouple: Shrink the parameters by :math:`\gamma \lambda` instead.
        use_bias_correction: Multiply :math:`\gamma` by Adam's bias correction.
        d0: The first :math:`d`.
        growth_rate: The largest factor by which :math:`d` may grow in one step. Without a bound
            :math:`d` may grow until a network is unstable; the authors advise 1.02 there, which
            acts like a warm-up.

    Source: Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.DAdaptAdam(x)
        >>> for _ in range(500):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 0.1)
        True
    """

    lr = nonnegative(1.0)
    betas = unit_pair(0.9, 0.999)
    eps = positive(1e-8)
    weight_decay = nonnegative(0.0)
    decouple = flag()
    use_bias_correction = flag()
    d0 = positive(1e-6, fixed=True)
    growth_rate = growth()
    adapts_lr = True
    slots = (signed("exp_avg"), squares("exp_avg_sq"), signed("sum"))
    scalars: ClassVar = {"d": 0.0, "numerator": 0.0, "used": 0.0}
    scope = "all"

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "none" if values["decouple"] else "coupled"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        pull, beta3 = scaled_rate(h, estimate(s.d, h.d0)), float(root(h.beta2))
        along = pull * (wide(g) * wide(s.sum / (root(s.exp_avg_sq) + h.eps)))
        s.exp_avg[...] = h.beta1 * s.exp_avg + pull * (1 - h.beta1) * g
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        s.sum[...] = beta3 * s.sum + pull * (1 - beta3) * g
        return along, abs_(wide(s.sum))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        known, beta3 = estimate(s.d, h.d0), root(h.beta2)
        s.used = known if sums[1] > 0 else 0.0
        s.numerator = beta3 * s.numerator + (1 - beta3) * sums[0]
        found = s.numerator / ((1 - beta3) * sums[1]) if sums[1] > 0 else 0.0
        s.d = maximum(known, minimum(found, known * h.growth_rate))

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= h.decouple * h.weight_decay * scaled_rate(h, s.used) * x
        x -= s.exp_avg / (root(s.exp_avg_sq) + h.eps)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.d)
