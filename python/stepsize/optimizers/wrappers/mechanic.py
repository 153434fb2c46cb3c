"""Mechanic: learns a learning rate for any rule during training."""

from __future__ import annotations

import math
from collections.abc import Callable
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
            with np.errstate(all="ignore"):  # the inner optimizer refuses non-finite values
                numbers, rescale = self._bet(gathered, before)
            with Uninterrupted():
                result = self.inner.step(grads, loss=loss, stats=stats)
                if self.step_count > count:
                    rescale()
                    self._numbers.update(numbers)
        return result

    def _bet(
        self, gathered: list[Array | None], before: list[Array]
    ) -> tuple[dict[str, Any], Callable[[], None]]:
        """The numbers after this step, and what rescales the update of the inner optimizer.

        All of it, with its memory, is there before the step, after which nothing may fail.
        """
        kept = [view_as_real(start) for start in self._arrays["start"]]
        first, old = self._numbers["steps"] == 0, sum(self._numbers["s"])
        columns = zip(self._points, gathered, before if first else kept, before, strict=True)
        moved = [(view_as_real(leaf), g, s, x) for leaf, g, s, x in columns if g is not None]
        points = [x.astype(float) for _, _, _, x in moved]
        starts = [start.astype(float) for _, _, start, _ in moved]
        ahead = [(s - x) / (old + self.eps) for s, x in zip(starts, points, strict=True)]
        numbers: dict[str, Any] = {"steps": self._numbers["steps"] + 1}
        scale, scratch = 0.0, [np.empty_like(x) for x in points]
        if moved:
            flat = [g for _, g, _, _ in moved]
            gain = self._gain(flat, [x for _, _, _, x in moved], ahead, old)
            scale, numbers = self._learned(gain, numbers)
        leaves = [leaf for leaf, _, _, _ in moved]

        def rescale() -> None:
            if first:
                assign(kept, before)
            rows = zip(leaves, starts, points, ahead, scratch, strict=True)
            for leaf, start, x, delta, found in rows:
                found[...] = leaf
                np.subtract(found, x, out=found)
                np.subtract(delta, found, out=found)
                np.multiply(found, scale, out=found)
                np.subtract(start, found, out=found)
                leaf[...] = found

        return numbers, rescale

    def _gain(self, flat: list[Array], x: list[Array], ahead: list[Array], scale: float) -> float:
        """The inner product of the gradient, decay included, and the displacement so far."""
        grad_norm = norm(flat)
        size = norm(x)
        pull = (1 if not self.internals.options.maximize else -1) * self.weight_decay
        pull *= scale * grad_norm / (size + self.eps)
        pairs = zip(flat, x, strict=True)
        slopes = [g.astype(float) + (pull * leaf).astype(float) for g, leaf in pairs]
        return (-1 if self.internals.options.maximize else 1) * _product(slopes, ahead)

    def _learned(self, h: float, numbers: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """The sum of the new scales, and the numbers with the new bets."""
        s, m, v, r = (np.array(self._numbers[name]) for name in "smvr")
        clipped = np.clip(h, -m, m)
        m = np.maximum(self.betas * m, abs(h) + self.eps)
        v = self.betas**2 * v + h * h
        r = self.betas * r + clipped * s
        s = (self.s_init / len(m) * m + np.maximum(r, 0.0)) / (np.sqrt(v) + self.eps)
        bets = {"s": s.tolist(), "m": m.tolist(), "v": v.tolist(), "r": r.tolist()}
        return float(s.sum()), {**numbers, **bets}


def _product(a: list[Array], b: list[Array]) -> float:
    """The inner product, at most `_MOST` in size, so that its square is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(float(np.vdot(p, q)) for p, q in zip(a, b, strict=True))
        if not math.isfinite(total):
            top, other = (max(float(np.abs(p).max(initial=0)) for p in part) for part in (a, b))
            terms = (float(np.vdot(p / top, q / other)) for p, q in zip(a, b, strict=True))
            total = _MOST * sum(terms)
    return float(np.clip(total, -_MOST, _MOST))
