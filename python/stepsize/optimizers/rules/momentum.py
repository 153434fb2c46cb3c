"""Stochastic gradient descent with and without momentum."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from stepsize.arrays import Array
from stepsize.optimizers.fields import Value, flag, nonnegative
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.slots import signed

__all__ = ["SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum if asked for.

    .. math::
        g &\leftarrow g + \lambda x \quad \text{or, decoupled,} \quad
            x \leftarrow x (1 - \eta \lambda) \\
        v &\leftarrow \mu v + (1 - d) g \quad (v = g \text{ at the first step}) \\
        x &\leftarrow x - \eta v \quad \text{or, Nesterov,} \quad x - \eta (g + \mu v)

    State: none without momentum, one array (``momentum_buffer``) with it. Nesterov's form needs a
    momentum above 0 and no dampening.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: Learning rate :math:`\eta`.
        momentum: :math:`\mu`; commonly 0.9.
        dampening: :math:`d`, the fraction of a new gradient that is left out.
        weight_decay: :math:`\lambda`, added to the gradient.
        nesterov: Use Nesterov momentum.
        decoupled: Apply the decay to the parameters instead, as in `AdamW`.

    Raises:
        ValueError: For Nesterov's form without momentum or with dampening.

    Source: Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013, section 2. As torch.optim.SGD;
    decoupled, Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0, -2.0])
        >>> ss.SGD(x, lr=0.1).step(np.array([1.0, 1.0]))
        >>> x
        array([ 0.9, -2.1])
    """

    lr = nonnegative(1e-3)
    momentum = nonnegative(0.0)
    dampening = nonnegative(0.0)
    weight_decay = nonnegative(0.0)
    by_row = True
    nesterov = flag()
    decoupled = flag()
    proximal = True

    @classmethod
    def variant(cls, values: Mapping[str, Value]) -> tuple[str, tuple[str, ...]]:
        if values["momentum"] == 0:
            return "SGD", ()
        return "SGDMomentum", (signed("momentum_buffer"),)

    @classmethod
    def decay_kind(cls, values: Mapping[str, Value]) -> str:
        return "decoupled" if values["decoupled"] else "coupled"

    @classmethod
    def check_together(cls, values: Mapping[str, Value]) -> None:
        if values["nesterov"] and (values["momentum"] == 0 or values["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov=True needs momentum > 0 and dampening = 0, got "
                f"momentum={values['momentum']!r}, dampening={values['dampening']!r}"
            )

    def rule(self, x: Array, g: Array, s: SimpleNamespace, h: SimpleNamespace) -> None:
        if not hasattr(s, "momentum_buffer"):
            x -= h.lr * g
            return
        fresh = 1.0 if h.t == 1 or h.momentum == 0 else 1 - h.dampening
        s.momentum_buffer[...] = h.momentum * s.momentum_buffer + fresh * g
        ahead = g + h.momentum * s.momentum_buffer
        x -= h.lr * (ahead if h.nesterov else s.momentum_buffer)
