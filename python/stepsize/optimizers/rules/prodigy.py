"""Prodigy: D-Adaptation with an estimate that grows faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, growth, nonnegative, positive, unit_pair
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import abs_, maximum, minimum, root, wide
from stepsize.optimizers.rules.dadapt import estimate, scaled_rate
from stepsize.optimizers.slots import exact, signed, squares

__all__ = ["Prodigy"]


class Prodigy(Optimizer):
    r"""Learning-rate-free Adam: D-Adaptation with a distance estimate that grows faster.

    .. math::
        \gamma &= \eta d, \quad r \leftarrow \sqrt{\beta_2}\, r
            + \frac{d}{d_0} \gamma \langle g, x_0 - x \rangle, \quad
        s \leftarrow \sqrt{\beta_2}\, s + \frac{d}{d_0} \gamma g \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) d g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) d^2 g^2 \\
        d &\leftarrow \max(d, c\, r / \|s\|_1) \\
        x &\leftarrow x - \gamma \lambda x - \gamma m / (\sqrt v + d \epsilon)

    Sums are taken over all leaves together; :math:`\gamma` and the averages use the old :math:`d`,
    the term with :math:`\epsilon` the new one. State: four arrays (``exp_avg``, ``exp_avg_sq``,
    ``sum``, which is :math:`s`, and ``start``, which is :math:`x_0`) and five numbers.
    ``lr_effective`` is :math:`\eta d`. Groups may have different factors :math:`\eta`; the authors'
    package refuses that. Nothing moves as long as all gradients are 0. optax always corrects the
    bias; here, as in the authors' package, that is an option.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`: 1, or a schedule relative to 1.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`.
        decouple: False adds :math:`\lambda x` to the gradient instead.
        use_bias_correction: Multiply :math:`\gamma` by Adam's bias correction.
        safeguard_warmup: Leave :math:`\eta` out of :math:`s`, for schedules with a warm-up.
        d0: The first :math:`d`.
        d_coef: :math:`c`, to make the rate larger or smaller.
        growth_rate: The largest factor by which :math:`d` may grow in one step.

    Source: Mishchenko & Defazio 2024, arXiv:2306.06101, Algorithm 4. As the authors' package.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.Prodigy(x)
        >>> for _ in range(500):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 0.1)
        True
    """

    lr = nonnegative(1.0)
    betas = unit_pair(0.9, 0.999)
    eps = positive(1e-8)
    weight_decay = nonnegative(0.0)
    decouple = flag(True)
    use_bias_correction = flag()
    safeguard_warmup = flag()
    d0 = positive(1e-6, fixed=True)
    d_coef = positive(1.0)
    growth_rate = growth()
    adapts_lr = True
    slots = (signed("exp_avg"), squares("exp_avg_sq"), signed("sum"), exact("start"))
    scalars: ClassVar = {"d": 0.0, "d_max": 0.0, "numerator": 0.0, "used": 0.0, "moving": 0.0}
    scope = "all"

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "none" if values["decouple"] else "coupled"

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        if h.t == 1:
            s.start[...] = x
        size = float(estimate(s.d, h.d0))
        rate, beta3 = scaled_rate(h, size), float(root(h.beta2))
        along = size / h.d0 * rate * (wide(g) * (wide(s.start) - wide(x)))
        s.sum[...] = beta3 * s.sum + size / h.d0 * (size if h.safeguard_warmup else rate) * g
        return along, abs_(wide(s.sum))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        known, best = estimate(s.d, h.d0), estimate(s.d_max, h.d0)
        moved = sums[1] > 0
        s.used, s.moving = known, float(moved)
        s.numerator = root(h.beta2) * s.numerator + sums[0]
        found = h.d_coef * s.numerator / sums[1] if moved else 0.0
        grown = maximum(known, found) if known == h.d0 else known
        s.d_max = maximum(best, found)
        s.d = minimum(s.d_max, grown * h.growth_rate)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = h.beta1 * s.exp_avg + s.used * (1 - h.beta1) * g
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + s.used * s.used * (1 - h.beta2) * g * g
        last = scaled_rate(h, s.used) * s.moving
        x -= h.decouple * h.weight_decay * last * x
        x -= last * s.exp_avg / (root(s.exp_avg_sq) + float(estimate(s.d, h.d0)) * h.eps)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.d)
