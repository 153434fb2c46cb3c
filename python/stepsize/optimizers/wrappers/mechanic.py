"""Mechanic: learns a learning rate for any rule during training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, is_narrow, norm, view_as_real
from stepsize.optimizers.gradients import gather
from stepsize.optimizers.transaction import Uninterrupted, assign
from stepsize.optimizers.wrappers.base import Wrapper

__all__ = ["Mechanic"]

_MOST = 1e150

MOST_BETAS = 15  # the next one, 1 - 1e-16, is 1 in double precision


class Mechanic(Wrapper):
    r"""Learning-rate tuner: learn the scale of any optimizer's updates by online betting.

    .. math::
        \Delta &= (x_0 - x) / (\textstyle\sum s + \epsilon), \quad
        g' = g + \lambda \textstyle\sum s \frac{\|g\|}{\|x\| + \epsilon} x, \quad
        h = \langle g', \Delta \rangle \\
        m_i &\leftarrow \max(\beta_i m_i, |h| + \epsilon), \quad
        v_i \leftarrow \beta_i^2 v_i + h^2, \quad
        r_i \leftarrow \beta_i r_i + \text{clip}(h, \pm m_i^{\text{old}})\, s_i \\
        s_i &= \frac{(s_0 / n)\, m_i + \max(r_i, 0)}{\sqrt{v_i} + \epsilon}, \quad
        x \leftarrow x_0 - \textstyle\sum s\, (\Delta - u)

    :math:`u` is the inner optimizer's update, :math:`\beta_i = 1 - 10^{-i}`. Give the inner
    optimizer a rate of 1, or a schedule from 1. ``lr_effective`` is :math:`\sum s` times its
    effective rate. State: one array (:math:`x_0`) and 4 ``num_betas`` numbers.

    Args:
        optimizer: The optimizer whose updates are scaled.
        s_init: :math:`s_0`.
        num_betas: :math:`n`.
        weight_decay: :math:`\lambda`.
        eps: :math:`\epsilon`.

    Source: Cutkosky, Defazio & Mehta 2023, arXiv:2306.00144, Algorithm 1. As
    optax.contrib.mechanize.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> opt = ss.Mechanic(ss.SGD(x, lr=1.0))
        >>> for _ in range(300):
        ...     opt.step(2 * x)
        >>> bool(np.abs(x).max() < 0.1)
        True
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        s_init: float = 1e-6,
        num_betas: int = 6,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        if self.internals.options.bounds is not None:
            raise ValueError(
                f"Mechanic: bounds and l1 of {type(optimizer).__name__} would not hold, since its "
                "updates are scaled afterwards; leave them out, and put ss.Project around Mechanic"
            )
        for path, leaf in zip(self.paths, self._points, strict=True):
            if is_narrow(leaf.dtype):
                raise TypeError(
                    f"Mechanic: {path} has dtype {leaf.dtype}, expected float32 or float64; "
                    "convert it with .astype(np.float32)"
                )
        n = self._count("num_betas", num_betas, most=MOST_BETAS)
        s_init = self._number("s_init", s_init, 0.0, math.inf, open_low=True)
        numbers = {name: [0.0] * n for name in "mvr"}
        self._set(
            s_init=s_init,
            betas=1.0 - 0.1 ** np.arange(1, n + 1),
            weight_decay=self._number("weight_decay", weight_decay, 0.0, math.inf, open_low=False),
            eps=self._number("eps", eps, 0.0, math.inf, open_low=True),
            _numbers={**numbers, "s": [s_init] * n, "steps": 0},
            _arrays={"start": [np.array(leaf) for leaf in self._points]},
        )

    @property
    def lr_effective(self) -> Any:
        """The learned scale times the inner optimizer's effective rate."""
        scale, rate = sum(self._numbers["s"]), self.inner.lr_effective
        if isinstance(rate, dict):
            return {path: scale * value for path, value in rate.items()}
        return tuple(scale * r for r in rate) if isinstance(rate, tuple) else scale * rate

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step, at the learned scale; ``stats`` are those of its update.

        A leaf without a gradient is not changed and does not influence the scale.
        """
        with self.internals.engine:  # what is read here is changed by steps of other threads
            grads = self._given(grads)
            flat = gather(self.internals, grads)
            gathered = [None if g is None else np.array(view_as_real(g)) for g in flat]
            before = [np.array(view_as_real(leaf)) for leaf in self._points]
            count = self.step_count
            with Uninterrupted():
                result = self.inner.step(grads, loss=loss, stats=stats)
                if self.step_count > count:
                    self._rescale(gathered, before)
        return result

    def _rescale(self, gathered: list[Array | None], before: list[Array]) -> None:
        """Rescale the update of the inner optimizer to the learned scale."""
        starts = [view_as_real(start) for start in self._arrays["start"]]
        leaves = [view_as_real(leaf) for leaf in self._points]
        if self._numbers["steps"] == 0:
            assign(starts, before)
        self._numbers["steps"] += 1
        old = sum(self._numbers["s"])
        moved = [
            (leaf, g, start, x, (start.astype(float) - x) / (old + self.eps))
            for leaf, g, start, x in zip(leaves, gathered, starts, before, strict=True)
            if g is not None
        ]
        if not moved:
            return
        _, flat, _, points, ahead = (list(column) for column in zip(*moved, strict=True))
        scale = self._learn(self._gain(flat, points, ahead, old))
        for leaf, _, start, x, delta in moved:
            leaf[...] = start - scale * (delta - (leaf.astype(float) - x))

    def _gain(self, flat: list[Array], x: list[Array], ahead: list[Array], scale: float) -> float:
        """The inner product of the gradient, decay included, and the displacement so far."""
        grad_norm = norm(flat)
        size = norm(x)
        pull = (1 if not self.internals.options.maximize else -1) * self.weight_decay
        pull *= scale * grad_norm / (size + self.eps)
        slopes = [g.astype(float) + pull * leaf for g, leaf in zip(flat, x, strict=True)]
        return (-1 if self.internals.options.maximize else 1) * _product(slopes, ahead)

    def _learn(self, h: float) -> float:
        """Update the bets and return the sum of the new scales."""
        s, m, v, r = (np.array(self._numbers[name]) for name in "smvr")
        clipped = np.clip(h, -m, m)
        m = np.maximum(self.betas * m, abs(h) + self.eps)
        v = self.betas**2 * v + h * h
        r = self.betas * r + clipped * s
        s = (self.s_init / len(m) * m + np.maximum(r, 0.0)) / (np.sqrt(v) + self.eps)
        self._numbers.update(s=s.tolist(), m=m.tolist(), v=v.tolist(), r=r.tolist())
        return float(s.sum())


def _product(a: list[Array], b: list[Array]) -> float:
    """The inner product, at most `_MOST` in size, so that its square is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(float(np.vdot(p, q)) for p, q in zip(a, b, strict=True))
        if not math.isfinite(total):
            top, other = (max(float(np.abs(p).max(initial=0)) for p in part) for part in (a, b))
            terms = (float(np.vdot(p / top, q / other)) for p, q in zip(a, b, strict=True))
            total = _MOST * sum(terms)
    return float(np.clip(total, -_MOST, _MOST))
