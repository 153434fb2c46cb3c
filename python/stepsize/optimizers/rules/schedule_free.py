"""Schedule-free learning: averaging and interpolation in place of a learning-rate decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from stepsize.arrays import Array
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import Value, flag, nonnegative, unit, unit_pair
from stepsize.optimizers.primitives import lerp, power, root
from stepsize.optimizers.rules.adam import rectifier
from stepsize.optimizers.rules.averaging import AveragingOptimizer
from stepsize.optimizers.slots import exact, squares

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


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
        c &= \frac{w_t}{w_1 + \dots + w_t}, \quad w_t = t^r (\max_{s \le t} \gamma_s)^p \\
        z &\leftarrow z - \gamma g, \quad x \leftarrow (1 - c) x + c z, \quad
            y = (1 - \mu) z + \mu x

    The parameters hold :math:`y`, the point at which gradients are evaluated. Evaluate at
    :math:`x`: `eval_params` gives it, `averaged` swaps it in. Do not add a decaying schedule.
    State: one array (``z``) and two numbers for each leaf.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`; larger than for SGD.
        momentum: :math:`\mu`, in (0, 1).
        weight_decay: :math:`\lambda`, added to the gradient at :math:`y`.
        warmup_steps: :math:`T_w`; 0 means no warm-up.
        r: Exponent :math:`r`, which weights later steps more.
        weight_lr_power: Exponent :math:`p` of the largest rate so far in the weights.

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1. As the authors' SGDScheduleFree.

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

    with the :math:`\gamma` and :math:`c` of `ScheduleFreeSGD`. The parameters hold :math:`y`, the
    point at which gradients are evaluated. Evaluate at :math:`x`: `eval_params` gives it,
    `averaged` swaps it in. State: two arrays (``z``, ``exp_avg_sq``) and two numbers for each leaf.
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

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1 and section 4. As the authors'
    AdamWScheduleFree.

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

    Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1. As the authors' RAdamScheduleFree.

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
