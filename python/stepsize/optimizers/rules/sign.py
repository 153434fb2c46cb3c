"""Sign-based rules, which use only the sign of a gradient or of an average."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from stepsize.arrays import Array
from stepsize.optimizers.fields import (
    Value,
    nonnegative,
    nonnegative_pair,
    unit,
    unit_pair,
)
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import lerp, maximum, minimum, select, sign
from stepsize.optimizers.slots import signed, squares

__all__ = ["Lion", "Rprop", "SignSGD", "Signum"]


class SignSGD(Optimizer):
    r"""Move every coordinate by the same amount, against the sign of its gradient.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        m &\leftarrow \mu m + (1 - \mu) g \quad \text{(momentum, else } m = g \text{)} \\
        x &\leftarrow x - \eta \operatorname{sign}(m)

    State: none without momentum, one array (``momentum_buffer``) with it, as in `Signum`. The sign
    of 0 is 0. With a constant rate the iterates end in steps of that length around the minimum:
    decay the rate to 0.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`, the length of every coordinate's move.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Bernstein et al. 2018, arXiv:1802.04434, Algorithms 1 and 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -2.0, 3.0])
        >>> ss.SignSGD(x, lr=0.25).step(np.array([0.001, -500.0, 0.0]))
        >>> x
        array([ 0.75, -1.75,  3.  ])
    """

    lr = nonnegative(1e-3)
    momentum = unit(0.0)
    weight_decay = nonnegative(0.0)
    decay = "decoupled"

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        if values["momentum"] == 0:
            return "SignSGD", ()
        return "SignSGDMomentum", (signed("momentum_buffer"),)

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if not hasattr(s, "momentum_buffer"):
            x -= h.lr * sign(g)
            return
        s.momentum_buffer[...] = lerp(s.momentum_buffer, g, 1 - h.momentum)
        x -= h.lr * sign(s.momentum_buffer)


class Signum(SignSGD):
    r"""Move every coordinate by the same amount, against the sign of its averaged gradient.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        m &\leftarrow \mu m + (1 - \mu) g \\
        x &\leftarrow x - \eta \operatorname{sign}(m)

    State: one array (``momentum_buffer``). `SignSGD` with a momentum of 0.9.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`, the length of every coordinate's move.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, 1.0])
        >>> opt = ss.Signum(x, lr=0.25)
        >>> opt.step(np.array([1.0, 1.0]))
        >>> opt.step(np.array([-0.5, -2.0]))  # too small to turn the first coordinate
        >>> x
        array([0.5, 1. ])
    """

    momentum = unit(0.9)


class Lion(Optimizer):
    r"""Move every coordinate by the same amount, in the direction of an averaged gradient.

    .. math::
        x &\leftarrow x (1 - \eta \lambda) \\
        x &\leftarrow x - \eta \operatorname{sign}(\beta_1 m + (1 - \beta_1) g) \\
        m &\leftarrow \beta_2 m + (1 - \beta_2) g

    State: one array (``m``). A coordinate whose average is exactly 0 does not move. Use rates 3 to
    10 times smaller than for AdamW, and a weight decay larger by the same factor.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`, the length of every coordinate's move.
        betas: :math:`\beta_1` of the direction, :math:`\beta_2` of the average that is kept.
        weight_decay: :math:`\lambda`, decoupled from the gradient.

    Source: Chen et al. 2023, arXiv:2302.06675, Algorithm 2.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -2.0, 3.0])
        >>> ss.Lion(x, lr=0.25).step(np.array([0.001, -500.0, 0.0]))
        >>> x
        array([ 0.75, -1.75,  3.  ])
    """

    lr = nonnegative(1e-4)
    betas = unit_pair(0.9, 0.99)
    weight_decay = nonnegative(0.0)
    slots = (signed("m"),)
    decay = "decoupled"

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        x -= h.lr * sign(lerp(g, s.m, h.beta1))
        s.m[...] = lerp(g, s.m, h.beta2)


class Rprop(Optimizer):
    r"""Resilient propagation: a step size per coordinate grows while its gradient keeps its sign.

    .. math::
        \Delta &\leftarrow \operatorname{clip}(\Delta \cdot
            \{\eta_+, \eta_-, 1\}, \Delta_{min}, \Delta_{max})
            \text{ where } g g_{last} \text{ is } > 0, < 0, = 0 \\
        g &\leftarrow 0 \text{ where } g g_{last} < 0 \\
        x &\leftarrow x - \Delta \operatorname{sign}(g), \quad g_{last} \leftarrow g

    State: two arrays (``prev``, ``step_size``). Rprop needs full-batch gradients, since noise can
    flip a sign. After a change of sign a coordinate does not move for one step.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: First value of every :math:`\Delta`, 0 for :math:`\Delta_{min}`; later changes of it
            do nothing.
        etas: Factors :math:`\eta_- < 1 < \eta_+`.
        step_sizes: :math:`\Delta_{min}` and :math:`\Delta_{max}`.

    Raises:
        ValueError: For factors or limits in the wrong order.

    Source: Riedmiller & Braun 1993, ICNN; the form without backtracking, iRprop-, Igel & Huesken
    2000, NC. As torch.optim.Rprop, except that the sign of a product that underflows is still
    detected. optax returns each update one step late; this class does not.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -3.0])
        >>> opt = ss.Rprop(x, lr=0.5)
        >>> for _ in range(4):
        ...     opt.step(np.sign(x))
        >>> np.round(x, 3)
        array([ 0.316, -0.316])
    """

    lr = nonnegative(1e-2)
    etas = nonnegative_pair(0.5, 1.2)
    step_sizes = nonnegative_pair(1e-6, 50.0)
    slots = (signed("prev"), squares("step_size"))

    @classmethod
    def check_together(cls, values: Mapping[str, Value]) -> None:
        low, high = values["etas"]
        if not (callable(low) or 0 < low < 1) or not (callable(high) or high > 1):
            raise ValueError(f"Rprop: etas must be (below 1, above 1), got {values['etas']!r:.80}")
        least, most = values["step_sizes"]
        if not callable(least) and not callable(most) and least > most:
            raise ValueError(
                f"Rprop: step_sizes must be (smallest, largest), got {values['step_sizes']!r:.80}"
            )

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        turn = sign(g) * sign(s.prev)
        factor = select(turn > 0, x.dtype.type(h.eta2), select(turn < 0, x.dtype.type(h.eta1), 1))
        size = x.dtype.type(h.lr) if h.t == 1 else s.step_size
        least, most = x.dtype.type(h.step_size1), x.dtype.type(h.step_size2)
        s.step_size[...] = minimum(maximum(size * factor, least), most)
        s.prev[...] = select(turn < 0, x.dtype.type(0), g)
        x -= s.step_size * sign(s.prev)
