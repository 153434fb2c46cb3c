"""Wrappers that keep, or return to, an average of the weights."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.primitives import lerp
from stepsize.optimizers.rules.momentum import SGD
from stepsize.optimizers.slots import copies
from stepsize.optimizers.transaction import Uninterrupted
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.validation import truth

__all__ = ["EMA", "SWA", "Lookahead"]


class AverageWrapper(SwapsAverage, Wrapper):
    """Base of the wrappers that keep an average of the points passed."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self._set(
            _follower=None,
            _numbers={"updates": 0},
            _arrays={"average": copies(self._points)},
        )

    def _averages(self) -> list[Array]:
        return [np.array(average) for average in self._arrays["average"]]

    def _keep_training(self, training: list[Array] | None) -> None:
        self._set(_training=training)

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """As the inner optimizer's step; the average takes the new point in, in the same pass."""
        self._refuse_average("a step starts from the training point")
        engine, share = self.internals.engine, self._share()
        # Another wrapper may move the parameters after the step.
        along = share is not None and not isinstance(self.inner, Wrapper)
        with Uninterrupted(), engine:  # the average belongs to the step
            if along:
                engine.track_average(self._arrays["average"], share)
            before = engine.step_count
            try:
                return self.inner.step(grads, loss=loss, stats=stats)
            finally:
                if engine.step_count == before:
                    engine.cancel_average()
                else:
                    if share is not None and not (along and engine.average_tracked):
                        self._follow(share)
                    self._count_update()

    def _share(self) -> float | None:
        """The share of the way to the parameters that the average goes next, or None to stay."""
        raise NotImplementedError

    def _count_update(self) -> None:
        self._numbers["updates"] += 1

    def _follow(self, share: float) -> None:
        """Move the average in a pass of its own, with the same bits."""
        averages = self._arrays["average"]
        if share > 0.25:  # the first steps; lerp counts from the other end above 1/2
            for average, leaf in zip(averages, self._points, strict=True):
                average[...] = lerp(average, to_float32(leaf), share)
            return
        if self._follower is None or self._follower.params is not averages:  # a clone has its own
            # e - w (e - x) is e + w (x - e).
            follower = SGD(averages, weight_decay=1.0, maximize=True, on_nonfinite="ignore")
            self._set(_follower=follower)
        self._follower.lr = share
        self._follower.step(self._points)


class EMA(AverageWrapper):
    r"""Keep an exponential average of the parameters of any optimizer.

    .. math::
        e \leftarrow d\, e + (1 - d)\, x, \quad
        d = \min(\text{decay}, 1 - (1 + n / \gamma)^{-p}) \text{ with warm-up}

    Training goes on at :math:`x`; ``eval_params()`` gives :math:`e` as new arrays, ``with
    opt.averaged():`` puts it into the parameters for a while. :math:`n` counts the updates before.
    The warm-up lets the average forget its start; without it the average holds :math:`d^n` of the
    starting point, and reading it while that is more than half warns. State: one array, which
    moves in the step's own pass over memory where every leaf has a gradient.

    Args:
        optimizer: The optimizer whose steps are taken.
        decay: The share that is kept, near 1.
        warmup: Start with a smaller share.
        gamma: :math:`\gamma`, the warm-up's length.
        power: :math:`p`, its speed.

    Source: Polyak & Juditsky 1992; the warm-up is that of timm's ModelEmaV3.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.EMA(ss.SGD(x, lr=1.0), decay=0.5)
        >>> opt.step(np.array([1.0]))
        >>> x, opt.eval_params()
        (array([0.]), array([0.5]))
    """

    def __init__(
        self,
        optimizer: Any,
        decay: float = 0.9999,
        *,
        warmup: bool = False,
        gamma: float = 1.0,
        power: float = 2 / 3,
    ) -> None:
        super().__init__(optimizer)
        self._set(
            decay=self._number("decay", decay, 0.0, 1.0, open_low=False),
            warmup=truth("EMA: warmup", warmup),
            gamma=self._number("gamma", gamma, 0.0, np.inf, open_low=True),
            power=self._number("power", power, 0.0, np.inf, open_low=True),
        )

    def _averages(self) -> list[Array]:
        n, decay = self._numbers["updates"], float(self.decay)
        weight = decay**n
        if n and weight > 0.5 and not self.warmup:
            half = math.log(0.5) / math.log(decay) if decay < 1 else math.inf
            warnings.warn(
                f"EMA: after {n} updates the average still holds {weight:.1%} of the starting "
                f"point; with decay={decay} half of it is left after {half:,.0f} updates: lower "
                "decay, or give warmup=True",
                stacklevel=3,
            )
        return super()._averages()

    def _share(self) -> float:
        decay = float(self.decay)
        if self.warmup:
            n = self._numbers["updates"]
            decay = min(decay, 1.0 - (1.0 + n / self.gamma) ** -self.power)
        return 1.0 - decay


class SWA(AverageWrapper):
    r"""Keep the plain mean of the parameters at every few steps.

    .. math::
        e \leftarrow e + (x - e) / (n + 1)

    ``eval_params()`` and ``with opt.averaged():`` as `EMA`. Until the first point is taken in, they
    give the parameters as they are. State: one array.

    Args:
        optimizer: The optimizer whose steps are taken.
        start: Updates before the first point is taken in.
        every: Updates from one point to the next.

    Source: Izmailov et al. 2018, arXiv:1803.05407, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([4.0])
        >>> opt = ss.SWA(ss.SGD(x, lr=1.0), start=1)
        >>> for _ in range(3):
        ...     opt.step(np.array([1.0]))
        >>> x, opt.eval_params()
        (array([1.]), array([1.5]))
    """

    def __init__(self, optimizer: Any, *, start: int = 0, every: int = 1) -> None:
        super().__init__(optimizer)
        self._set(
            start=self._count("start", start, 0),
            every=self._count("every", every),
            _numbers={"updates": 0, "points": 0},
        )

    def _averages(self) -> list[Array]:
        return super()._averages() if self._numbers["points"] else copies(self._points)

    def _share(self) -> float | None:
        after = self._numbers["updates"] - self.start
        return None if after < 0 or after % self.every else 1.0 / (self._numbers["points"] + 1)

    def _count_update(self) -> None:
        self._numbers["points"] += self._share() is not None
        super()._count_update()


class Lookahead(Wrapper):
    r"""Let any optimizer run ahead for k steps, then go a part of the way and start there.

    .. math::
        \phi \leftarrow \phi + \alpha (x - \phi), \quad x \leftarrow \phi
            \quad \text{after every } k \text{ steps}

    State: one array (:math:`\phi`, the slow weights).

    Args:
        optimizer: The optimizer that runs ahead.
        k: Steps between two returns.
        alpha: :math:`\alpha`, the part of the way.

    Source: Zhang et al. 2019, arXiv:1907.08610, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([4.0])
        >>> opt = ss.Lookahead(ss.SGD(x, lr=1.0), k=2)
        >>> for _ in range(2):
        ...     opt.step(np.array([1.0]))
        >>> x
        array([3.])
    """

    def __init__(self, optimizer: Any, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        self._set(
            k=self._count("k", k),
            alpha=self._number("alpha", alpha, 0.0, 1.0, open_low=True),
            _numbers={"ahead": 0},
            _arrays={"slow": [np.array(to_float32(leaf)) for leaf in self._points]},
        )

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """As the inner optimizer's step, and at every k-th the return."""
        before = self.step_count
        with Uninterrupted(), self.internals.engine:
            result = self.inner.step(grads, loss=loss, stats=stats)
            self._numbers["ahead"] += self.step_count - before
            if self._numbers["ahead"] >= self.k:
                for slow, leaf in zip(self._arrays["slow"], self._points, strict=True):
                    slow[...] = lerp(slow, to_float32(leaf), self.alpha)
                    leaf[...] = slow
                self._numbers["ahead"] = 0
        return result
