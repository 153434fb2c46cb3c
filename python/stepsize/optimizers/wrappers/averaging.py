"""Weight averaging: wrappers that keep an average of the parameters, or return to it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.fields import real
from stepsize.optimizers.rules.momentum import SGD
from stepsize.optimizers.slots import copies
from stepsize.optimizers.transaction import Uninterrupted
from stepsize.optimizers.wrappers.approach import Approach
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.validation import truth

__all__ = ["EMA", "SWA"]


FIRST = 0.25  # larger shares are of the first steps; above 1/2 lerp starts from the other end


class AverageWrapper(SwapsAverage, Wrapper):
    """Base of the wrappers that keep an average of the iterates."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self._set(
            _follower=None,
            _approach=None,
            _numbers={"updates": 0},
            _arrays={"average": copies(self._points)},
        )
        self._prepare_to_follow(0.0)

    def _averages(self) -> list[Array]:
        return [np.array(average) for average in self._arrays["average"]]

    def _keep_training(self, training: list[Array] | None) -> None:
        self._set(_training=training)

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step; the average is updated in the same pass over memory."""
        engine = self.internals.engine
        with Uninterrupted(), engine:  # the average is part of the step
            self._refuse_average("a step starts from the training point")
            share = self._share()
            # Another wrapper may move the parameters after the step.
            along = share is not None and not isinstance(self.inner, Wrapper)
            if share is not None:
                self._prepare_to_follow(share)
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
        """The weight of the parameters in the next update of the average; None for no update."""
        raise NotImplementedError

    def _count_update(self) -> None:
        self._numbers["updates"] += 1

    def _prepare_to_follow(self, share: float) -> None:
        """Make what updates the average, before the step: after it there may be no memory."""
        averages = self._arrays["average"]
        self._set(_approach=Approach(averages, self._points) if share > FIRST else None)
        if self._follower is None or self._follower.params is not averages:  # a clone has its own
            self._set(_follower=_Follower(averages, on_nonfinite="ignore"))

    def _follow(self, share: float) -> None:
        """Update the average in a separate pass, with bitwise the same result."""
        if share > FIRST:
            self._approach.move(share)
            return
        self._follower.lr = -share
        inner = isinstance(self.inner, Wrapper)  # it may have moved the leaves themselves
        self._follower.step(self._points if inner else self.internals.leaves.contiguous)


class _Follower(SGD):
    """SGD whose step towards the gradient is that of `lerp`, zeros with their signs too.

    With the rate -w, e - (-w) (x - e) is e + w (x - e).
    """

    lr = real(0.0)
    weight_decay = real(-1.0)


class EMA(AverageWrapper):
    r"""Keep an exponential moving average (EMA) of the parameters of any optimizer.

    .. math::
        e \leftarrow d\, e + (1 - d)\, x, \quad
        d = \min(\text{decay}, 1 - (1 + n / \gamma)^{-p}) \text{ with warm-up}

    Training continues at :math:`x`; ``eval_params()`` returns :math:`e` as new arrays, and ``with
    opt.averaged():`` puts it into the parameters temporarily. :math:`n` is the number of earlier
    updates. Warm-up lets the average forget the starting point. Without it the starting point has a
    weight of :math:`d^n`, and reading the average while that is more than half gives a warning.
    State: one array, updated in the step's own pass over memory if every leaf has a gradient.

    Args:
        optimizer: The optimizer whose steps are taken.
        decay: The weight of the old average, near 1.
        warmup: Start with a smaller decay.
        gamma: :math:`\gamma`, the length of the warm-up.
        power: :math:`p`, its speed.

    Source: Polyak & Juditsky 1992; warm-up as in timm's ModelEmaV3.

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
    r"""Stochastic weight averaging: the mean of the parameters at every few steps.

    .. math::
        e \leftarrow e + (x - e) / (n + 1)

    ``eval_params()`` and ``with opt.averaged():`` work as in `EMA`. Before the first point is
    averaged, they give the current parameters. State: one array.

    Args:
        optimizer: The optimizer whose steps are taken.
        start: Updates before the first point is averaged.
        every: Updates from one averaged point to the next.

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
