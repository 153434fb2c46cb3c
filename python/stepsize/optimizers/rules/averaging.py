"""Rules whose result is an average of their iterates."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array, view_as_complex, view_as_real
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.elementary import real_power
from stepsize.optimizers.fields import nonnegative
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp
from stepsize.optimizers.slots import exact

__all__ = ["ASGD"]


def averages_of(parts: Internals, training: Sequence[Array] | None) -> list[Array]:
    """The average of every leaf, as new arrays: the training point where its rule has none."""
    result = []
    for i, (x, slots, times) in enumerate(
        zip(training or parts.leaves.arrays, parts.slots.arrays, parts.engine.times, strict=True)
    ):
        rule, found = parts.rule_of(i), view_as_real(x)
        if times and isinstance(rule, AveragingOptimizer):
            s = parts.scalars(i)
            s.__dict__.update({name: view_as_real(slot) for name, slot in slots.items()})
            found = rule.average(found, s, parts.groups.numbers(parts.groups.assignment[i]))
        result.append(view_as_complex(np.array(found), x.dtype))
    return result


class AveragingOptimizer(SwapsAverage, Optimizer, abstract=True):
    """Base of the rules that train at one point and return another, the average of iterates."""

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        """The average of one leaf, computed from its training point, state and hyperparameters."""
        raise NotImplementedError

    def _averages(self) -> list[Array]:
        return averages_of(self.internals, self._training)


class ASGD(AveragingOptimizer):
    r"""Averaged SGD: a decaying rate, and the mean of the iterates as the result.

    .. math::
        g &\leftarrow g + \lambda x, \quad
            \eta_t = \frac{\eta}{(1 + \lambda_d \eta (t - 1))^\alpha} \\
        x &\leftarrow x (1 - \lambda_d \eta_t) - \eta_t g \\
        \bar x &\leftarrow \bar x + \mu_t (x - \bar x), \quad
            \mu_t = \frac{1}{\max(1, t - 1 - t_0)}

    `eval_params` and `averaged` give :math:`\bar x`, which is :math:`x` itself until the average
    starts. State: one array (``ax``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        lambd: :math:`\lambda_d`, both a weight decay and the speed at which the rate decays.
        alpha: :math:`\alpha`, the exponent of the rate's decay.
        t0: :math:`t_0`, the step after which averaging starts; the default is later than the end of
            most runs, so lower it.
        weight_decay: :math:`\lambda`, added to the gradient.

    Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); rates of Bottou 2012, "Stochastic
    Gradient Descent Tricks", section 5. As torch.optim.ASGD with a constant rate; a schedule takes
    effect at once here and one step later in torch.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([4.0])
        >>> opt = ss.ASGD(x, lr=1.0, lambd=0.0, t0=0)
        >>> for g in (1.0, 1.0, -1.0):
        ...     opt.step(np.array([g]))
        >>> x, opt.eval_params()
        (array([3.]), array([2.5]))
    """

    lr = nonnegative(1e-2)
    lambd = nonnegative(1e-4)
    alpha = nonnegative(0.75)
    t0 = nonnegative(1e6)
    weight_decay = nonnegative(0.0)
    slots = (exact("ax"),)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        before = float(h.t - 1)
        eta = h.lr / real_power(1 + h.lambd * h.lr * before, h.alpha)
        x[...] = x * (1 - h.lambd * eta) - eta * g
        s.ax[...] = lerp(s.ax, x, 1 / max(before - h.t0, 1.0))

    def average(self, x: Array, s: SimpleNamespace, h: SimpleNamespace) -> Any:
        return s.ax
