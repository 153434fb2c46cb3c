"""Schedule-free learning: averaging and interpolation in place of a learning-rate decay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from stepsize.arrays import Array
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import Value, flag, nonnegative, real, unit, unit_pair
from stepsize.optimizers.primitives import abs_, lerp, maximum, minimum, power, root, wide
from stepsize.optimizers.rules.adam import rectifier
from stepsize.optimizers.rules.averaging import AveragingOptimizer
from stepsize.optimizers.slots import exact, signed, squares

__all__ = ["ScheduleFreeAdamW", "ScheduleFreePlus", "ScheduleFreeRAdam", "ScheduleFreeSGD"]

# sqrt(pi / 2): of a normal variable, standard deviation over mean absolute value.
GAUSSIAN = 1.2533141373155003


def _advance(
    y: Array, d: Array, s: SimpleNamespace, h: SimpleNamespace, rate: float, beta: float
) -> None:
    """Move ``y`` and ``z`` along ``d``: lines 4 to 6 of Algorithm 1, without storing ``x``."""
    if h.t == 1:
        s.z[...] = y
    s.lr_max = max(s.lr_max, rate)
    weight = real_power(float(h.t), h.r) * real_power(s.lr_max, h.weight_lr_power)
    s.weight_sum += weight
    share = weight / s.weight_sum if s.weight_sum > 0 else 0.0
    if h.decoupling > 0:
        share = min(share * (1 - beta) * h.decoupling, 1.0)
    step = rate * (1 - beta * (1 - share))
    y[...] = lerp(y, s.z, share) - step * d
    s.z -= rate * d


def _average(y: Array, z: Array, beta: float) -> Any:
    return y + (1 - 1 / beta) * (z - y)


class _ScheduleFreeAdam(AveragingOptimizer, abstract=True):
    """The common part of AdamW and RAdam."""

    scalars = {"lr_max": 0.0, "weight_sum": 0.0}  # noqa: RUF012
    slots = (exact("z"), squares("exp_avg_sq"))
    decay = "none"
    later = ("decoupling",)

    @classmethod
    def check_together(cls, values: Mapping[str, Value]) -> None:
        if values["betas"][0] == 0:
            raise ValueError(
                f"{cls.__name__}: betas[0] must be in (0, 1), got 0: without it the average "
                "cannot be told from the training point"
            )

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        return _average(x, s.z, h.beta1)


class ScheduleFreeSGD(AveragingOptimizer):
    r"""SGD that needs no schedule: its result is a weighted average of its iterates.

    .. math::
        g &\leftarrow \nabla f(y) + \lambda y, \quad
            \gamma = \eta \min(t / T_w, 1) \\
        c &= \min\left(\frac{w_t}{w_1 + \dots + w_t} (1 - \mu) C, 1\right), \quad
            w_t = t^r (\max_{s \le t} \gamma_s)^p \\
        z &\leftarrow z - \gamma g, \quad x \leftarrow (1 - c) x + c z, \quad
            y = (1 - \mu) z + \mu x

    The parameters hold :math:`y`, the point at which gradients are evaluated. Evaluate at
    :math:`x`: `eval_params` gives it, `averaged` swaps it in. Do not add a decaying schedule.
    With ``decoupling`` the average forgets early points the sooner the larger :math:`C` is,
    whatever :math:`\mu`; without, :math:`C = 1 / (1 - \mu)`.
    State: one array (``z``) and two numbers for each leaf.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`; larger than for SGD.
        momentum: :math:`\mu`, in (0, 1).
        weight_decay: :math:`\lambda`, added to the gradient at :math:`y`.
        warmup_steps: :math:`T_w`; 0 means no warm-up.
        r: Exponent :math:`r`, which weights later steps more.
        weight_lr_power: Exponent :math:`p` of the largest rate so far in the weights.
        decoupling: :math:`C`; 0 ties it to the momentum.

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1. As the authors' SGDScheduleFree.
    Decoupling: Song et al. 2025, arXiv:2507.09846, the refined method.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.ScheduleFreeSGD(x, lr=0.5)
        >>> for _ in range(50):
        ...     opt.step(2 * x)
        >>> with opt.averaged():
        ...     print(abs(x[0]) < 0.05)
        True
    """

    lr = nonnegative(1.0)
    momentum = unit(0.9, low_open=True)
    weight_decay = nonnegative(0.0)
    warmup_steps = nonnegative(0.0)
    r = nonnegative(0.0)
    weight_lr_power = nonnegative(2.0)
    decoupling = nonnegative(0.0)
    later = ("decoupling",)
    slots = (exact("z"),)
    scalars = {"lr_max": 0.0, "weight_sum": 0.0}  # noqa: RUF012

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        rate = h.lr * min(h.t / max(h.warmup_steps, 1.0), 1.0)
        _advance(x, g, s, h, rate, h.momentum)

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        return _average(x, s.z, h.momentum)


class ScheduleFreeAdamW(_ScheduleFreeAdam):
    r"""AdamW that needs no schedule: its result is a weighted average of its iterates.

    .. math::
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        d &= \frac{g}{\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon} + \lambda y \\
        z &\leftarrow z - \gamma d, \quad x \leftarrow (1 - c) x + c z, \quad
            y = (1 - \beta_1) z + \beta_1 x

    with the :math:`\gamma` and :math:`c` of `ScheduleFreeSGD`, :math:`\mu = \beta_1`. The
    parameters hold :math:`y`, the point at which gradients are evaluated. Evaluate at :math:`x`:
    `eval_params` gives it, `averaged` swaps it in. State: two arrays (``z``, ``exp_avg_sq``) and
    two numbers for each leaf.
    Keras weights all steps equally and leaves the decay out of :math:`d`; this class does not.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`; larger than for AdamW.
        betas: :math:`\beta_1`, above 0, and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, applied at :math:`y`.
        warmup_steps: Steps of linear warm-up; 0 means none.
        r: Exponent :math:`r`, which weights later steps more.
        weight_lr_power: Exponent :math:`p` of the largest rate so far in the weights.
        decoupling: :math:`C` of `ScheduleFreeSGD`; 0 ties it to the momentum.

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1 and section 4. As the authors'
    AdamWScheduleFree. Decoupling: Song et al. 2025, arXiv:2507.09846, the refined method.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.ScheduleFreeAdamW(x, lr=0.1)
        >>> for _ in range(200):
        ...     opt.step(2 * x)
        >>> abs(opt.eval_params()[0]) < 0.05
        np.True_
    """

    lr = nonnegative(2.5e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    warmup_steps = nonnegative(0.0)
    r = nonnegative(0.0)
    weight_lr_power = nonnegative(2.0)
    decoupling = nonnegative(0.0)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        d = g / (root(s.exp_avg_sq) * unbias + h.eps) + h.weight_decay * x
        rate = h.lr * min(h.t / max(h.warmup_steps, 1.0), 1.0)
        _advance(x, d, s, h, rate, h.beta1)


class ScheduleFreeRAdam(_ScheduleFreeAdam):
    r"""RAdam without schedule and warm-up: its result is a weighted average of its iterates.

    .. math::
        \gamma = \eta r_t, \quad
        d = \begin{cases} g / (\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon) & \rho_t > 4 \\
            g & \text{else} \end{cases} \quad + \lambda y

    then as `ScheduleFreeAdamW`, with the :math:`r_t` and :math:`\rho_t` of `RAdam`. State: two
    arrays (``z``, ``exp_avg_sq``) and two numbers for each leaf.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        betas: :math:`\beta_1`, above 0, and :math:`\beta_2`.
        eps: :math:`\epsilon`, added after the bias correction.
        weight_decay: :math:`\lambda`, applied at :math:`y`.
        r: Exponent :math:`r`, which weights later steps more.
        weight_lr_power: Exponent :math:`p` of the largest rate so far in the weights.
        silent_sgd_phase: Do not move while :math:`\rho_t \le 4`, in the first four steps, instead
            of following the plain gradient.
        decoupling: :math:`C` of `ScheduleFreeSGD`; 0 ties it to the momentum.

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1. As the authors' RAdamScheduleFree.
    Decoupling: Song et al. 2025, arXiv:2507.09846, the refined method.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.ScheduleFreeRAdam(x, lr=0.1)
        >>> for _ in range(400):
        ...     opt.step(2 * x)
        >>> abs(opt.eval_params()[0]) < 0.05
        np.True_
    """

    lr = nonnegative(2.5e-3)
    betas = unit_pair(0.9, 0.999)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    r = nonnegative(0.0)
    weight_lr_power = nonnegative(2.0)
    silent_sgd_phase = flag(True)
    decoupling = nonnegative(0.0)

    @classmethod
    def check_together(cls, values: Mapping[str, Value]) -> None:
        super().check_together(values)
        beta2 = values["betas"][1]
        if values["silent_sgd_phase"] and not callable(beta2) and rectifier(beta2, 1 << 40)[0] <= 4:
            raise ValueError(
                f"{cls.__name__}: betas[1] must be above 0.6 with silent_sgd_phase=True, got "
                f"{beta2!r}: it would stay put for ever; raise it, or choose "
                "silent_sgd_phase=False"
            )

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        length, factor = rectifier(h.beta2, h.t)
        unbias = 1 / math.sqrt(1 - power(h.beta2, h.t))
        d = g / (root(s.exp_avg_sq) * unbias + h.eps) if length > 4 else g
        rate = h.lr * (factor if length > 4 else 0.0 if h.silent_sgd_phase else 1.0)
        _advance(x, d + h.weight_decay * x, s, h, rate, h.beta1)


class ScheduleFreePlus(AveragingOptimizer):
    r"""ScheduleFree+: Adam without schedule or rate, by averaging and a Polyak step size.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad
            v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
            a \leftarrow \beta_p a + (1 - \beta_p) \sqrt{\pi / 2}\, \|g\|_1 \\
        \gamma &= \eta \frac{\max(f(y) - f_{\min} + \mu_t \langle g, z - x \rangle, 0)}
            {a / (1 - \beta_p^t)} \\
        z &\leftarrow z - \gamma \frac{m / (1 - \beta_1^t)}
            {\sqrt{v / (1 - \beta_2^t)} + \epsilon} - \min(\gamma^2 \lambda, 1) y \\
        x &\leftarrow (1 - c) x + c z, \quad y = (1 - \mu_t) z + \mu_t x

    with the weights of `ScheduleFreeSGD`, in which rates are at least :math:`\epsilon`. They count
    from step :math:`T_c` on; until then :math:`c = 1`. :math:`1 - \mu_t` goes from
    :math:`1 - \mu` to :math:`1 - \mu_{\max}` by equal
    factors in :math:`T_a` steps, if that is above 0. The parameters hold :math:`y`, the point at
    which gradients are evaluated; `eval_params` gives :math:`x`, `averaged` swaps it in. Sums are
    taken over all leaves together, real and imaginary parts each on their own. ``step(grads,
    loss=...)`` needs the loss. State: three arrays (``exp_avg``, ``exp_avg_sq``, ``z``) and seven
    numbers. ``lr_effective`` is :math:`\gamma`; with groups of different rates, the weights follow
    that of the first. A loss that stays above ``f_min`` as gradients vanish makes :math:`\gamma`
    grow: give the smallest value that the loss can take. Where the norm is below 2.2e-16 the step
    is 0, as in `PolyakSGD`.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: A factor :math:`\eta`, or a schedule of it for warm-up.
        betas: :math:`\beta_1` and :math:`\beta_2`.
        sf_beta1: :math:`\mu`, in (0, 1), the weight of the average in :math:`y`.
        eps: :math:`\epsilon`.
        weight_decay: :math:`\lambda`, multiplied by the square of the rate, so that it is rather 20
            than 0.1.
        r: Exponent of the step in the weights; 2 for long runs.
        polyak_beta: :math:`\beta_p`.
        c_warmup: :math:`T_c`; one or two times the warm-up.
        sf_beta1_anneal_steps: :math:`T_a`; 0 leaves :math:`\mu` as it is.
        sf_beta1_max: :math:`\mu_{\max}`.
        weight_lr_power: Exponent of the largest rate so far in the weights.
        f_min: :math:`f_{\min}`, which the authors take as 0.

    Source: Defazio 2026, arXiv:2605.19095. As the authors' AdamCScheduleFreePlusPaper.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -2.0])
        >>> opt = ss.ScheduleFreePlus(x, r=2.0)
        >>> for _ in range(2000):
        ...     opt.step(2 * x, loss=(x**2).sum())
        >>> bool(np.abs(opt.eval_params()).max() < 0.01)
        True
    """

    lr = nonnegative(1.0)
    betas = unit_pair(0.9, 0.95)
    sf_beta1 = unit(0.9, low_open=True)
    eps = nonnegative(1e-8)
    weight_decay = nonnegative(0.0)
    r = nonnegative(0.0)
    polyak_beta = unit(0.0)
    c_warmup = nonnegative(0.0)
    sf_beta1_anneal_steps = nonnegative(0.0)
    sf_beta1_max = unit(0.965, low_open=True)
    weight_lr_power = nonnegative(2.0)
    f_min = real(0.0)
    adapts_lr = True
    slots = (signed("exp_avg"), squares("exp_avg_sq"), exact("z"))
    scalars: ClassVar = {
        "polyak": 0.0,
        "grad_l1": 0.0,
        "lr_max": 0.0,
        "weight_sum": 0.0,
        "share": 0.0,
        "beta": 0.0,  # of the last step
        "turn": 0.0,  # that of this step over it
    }
    scope = "all"
    decay = "none"
    needs_loss = True

    def measure(
        self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace
    ) -> tuple[Array, ...]:
        if h.t == 1:
            s.z[...] = x
        return abs_(wide(g)), wide(g) * (wide(s.z) - wide(x))

    def settle(self, s: SimpleNamespace, h: SimpleNamespace, sums: Sequence[float]) -> None:
        before = float(h.t - 1)
        steps = h.sf_beta1_anneal_steps
        along = minimum(before / steps, 1.0) if steps > 0 else 0.0
        now = 1 - real_power(1 - h.sf_beta1, 1 - along) * real_power(1 - h.sf_beta1_max, along)
        s.turn = now / s.beta if s.beta > 0 else 1.0
        s.beta = now
        s.grad_l1 = h.polyak_beta * s.grad_l1 + (1 - h.polyak_beta) * sums[0] * GAUSSIAN
        size = s.grad_l1 / (1 - power(h.polyak_beta, h.t))
        gap = maximum(h.loss - h.f_min + s.turn * sums[1], 0.0)
        s.polyak = gap / size if size > 2.220446049250313e-16 else 0.0
        s.lr_max = maximum(maximum(s.lr_max, h.eps), h.lr * s.polyak)
        s.share = 1.0
        if before >= h.c_warmup:
            weight = real_power(float(h.t), h.r) * real_power(s.lr_max, h.weight_lr_power)
            s.weight_sum += weight
            s.share = weight / s.weight_sum if s.weight_sum > 0 else 0.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        s.exp_avg[...] = h.beta1 * s.exp_avg + (1 - h.beta1) * g
        s.exp_avg_sq[...] = h.beta2 * s.exp_avg_sq + (1 - h.beta2) * g * g
        unbias1 = 1 / (1 - power(h.beta1, h.t))
        unbias2 = 1 / math.sqrt(1 - power(h.beta2, h.t))
        rate = self.effective(s, h)
        scaled = s.exp_avg * unbias1 / (root(s.exp_avg_sq) * unbias2 + h.eps)
        d = rate * scaled + float(minimum(rate * rate * h.weight_decay, 1.0)) * x
        kept = 1 - s.share
        x[...] = lerp(x, s.z, 1 - s.turn * kept) - (1 - s.beta * kept) * d
        s.z -= d

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(h.lr * s.polyak)

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        return _average(x, s.z, s.beta) if s.beta else x
