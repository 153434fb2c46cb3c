"""Dual averaging: rules that recompute the parameters from a sum of all gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from stepsize.arrays import Array, Nest
from stepsize.optimizers.fields import Value, flag, nonnegative, positive, unit
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import clamp, cube_root, lerp, root, select, squarable
from stepsize.optimizers.slots import exact, squares

__all__ = ["FTRL", "MADGRAD"]


class FTRL(Optimizer):
    r"""Follow the regularised leader: online learning whose L1 term sets coordinates to exactly 0.

    .. math::
        n' &= n + g^2 \\
        z &\leftarrow z + g + 2 \lambda_s x - \frac{\sqrt{n'} - \sqrt{n}}{\eta} x,
            \quad n \leftarrow n' \\
        x &\leftarrow \frac{\operatorname{clip}(z, \pm \lambda_1) - z}
            {(\beta + \sqrt{n}) / \eta + 2 \lambda_2}

    It is meant for linear models with many rare features. The parameters are a function of the
    state alone: the first step discards most of the starting point, and a change of the rate
    rescales all earlier steps, so keep the rate constant. State: two arrays (``accumulator``,
    ``linear``).

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Rate :math:`\eta`. A step at 0 leaves parameters and state as they are.
        beta: :math:`\beta`; the paper suggests 1.
        l1: :math:`\lambda_1`.
        l2: :math:`\lambda_2`, the weight of the penalty :math:`\lambda_2 x^2`.
        l2_shrinkage: :math:`\lambda_s`, a weight decay that is not added to the accumulator.
        initial_accumulator_value: First value of :math:`n`.

    Source: McMahan et al. 2013, KDD, Algorithm 1. As keras.optimizers.Ftrl with its default power
    of -1/2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.zeros(2)
        >>> ss.FTRL(x, lr=0.5, l1=1.0).step(np.array([0.5, -2.0]))
        >>> np.round(x, 4)
        array([0.    , 0.2469])
    """

    lr = nonnegative(1e-3)
    beta = nonnegative(0.0)
    l1 = nonnegative(0.0)
    l2 = nonnegative(0.0)
    l2_shrinkage = nonnegative(0.0)
    initial_accumulator_value = nonnegative(0.1, fixed=True)
    steady_lr = True
    anchored = True
    slots = (squares("accumulator"), exact("linear"))

    def __init__(self, params: Nest, lr: Value = None, *others: Any, **keywords: Any) -> None:
        super().__init__(params, lr, *others, **keywords)
        if any(callable(table["lr"]) for table in self.internals.groups.tables):
            warnings.warn(
                "FTRL: a changing rate scales the whole solution, not the steps to come: a falling "
                "one takes the parameters back towards 0; keep lr constant",
                stacklevel=2,
            )

    def initial(self, slot: str, leaf: Array, values: Mapping[str, Value]) -> Any:
        return values["initial_accumulator_value"] if slot == "accumulator" else 0.0

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        inverse = x.dtype.type(1 / h.lr if h.lr else math.inf)
        if inverse == math.inf:
            return
        g = squarable(g)
        before = root(s.accumulator)
        s.accumulator[...] = clamp(s.accumulator + g * g, float(np.finfo(x.dtype).max))
        after = root(s.accumulator)
        s.linear += (g + 2 * h.l2_shrinkage * x) - (after - before) * inverse * x
        curvature = after * inverse + (2 * h.l2 + h.beta / h.lr)
        minimum = (clamp(s.linear, h.l1) - s.linear) / curvature
        x[...] = select(curvature > 0, minimum, x)


class MADGRAD(Optimizer):
    r"""Dual averaging with momentum, divided by the cube root of the sum of squared gradients.

    .. math::
        g &\leftarrow g + \lambda x, \quad \omega = (\eta + \epsilon) \sqrt{t} \\
        S &\leftarrow S + \omega g^2, \quad s \leftarrow s + \omega g \\
        x &\leftarrow \mu x + (1 - \mu) \left( x_0 - \frac{s}{\sqrt[3]{S} + \epsilon} \right)

    State: three arrays (``grad_sum_sq``, ``grad_sum``, ``x0``). MADGRAD needs less weight decay
    than SGD, often none.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`, added to the gradient.
        eps: :math:`\epsilon`, added to the root, and to a rate above 0.
        decouple_decay: Subtract :math:`(\eta + \epsilon) \lambda x` from the parameters instead.

    Source: Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1. As the authors' code and
    optax.contrib.madgrad.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -1.0])
        >>> ss.MADGRAD(x, lr=0.1, momentum=0.0).step(np.array([1.0, -8.0]))
        >>> np.round(x, 4)
        array([ 0.7846, -0.5691])
    """

    lr = nonnegative(1e-2)
    momentum = unit(0.9)
    weight_decay = nonnegative(0.0)
    eps = positive(1e-6)
    decouple_decay = flag()
    anchored = True
    slots = (squares("grad_sum_sq"), exact("grad_sum"), exact("x0"))

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "none" if values["decouple_decay"] else "coupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if h.t == 1:
            s.x0[...] = x
        lr = h.lr + h.eps if h.lr > 0 else 0.0
        weight = lr * math.sqrt(h.t)
        s.grad_sum_sq += weight * g * g
        s.grad_sum += weight * g
        z = s.x0 - s.grad_sum / (cube_root(s.grad_sum_sq) + h.eps)
        pull = lr * h.weight_decay if h.decouple_decay else 0.0
        x[...] = lerp(x, z, 1 - h.momentum) - pull * x
