"""Slow weights: wrappers that move them after every few steps, and restart from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from stepsize._core import BOUND
from stepsize.arrays import Array, Nest, view_as_real
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.slots import copies
from stepsize.optimizers.transaction import Uninterrupted, assign
from stepsize.optimizers.wrappers.approach import Approach
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.optimizers.wrappers.projecting import Project
from stepsize.validation import choice, number

__all__ = ["Lookahead", "OuterMomentum"]


class SlowWeights(Wrapper):
    """Base of the wrappers that look at slow weights after every few steps inside."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self._set(
            _numbers={"ahead": 0},
            _arrays={"slow": [np.array(to_float32(leaf)) for leaf in self._points]},
        )

    def step(self, grads: Nest = BOUND, *, loss: float | None = None, stats: bool = False) -> Any:
        """The inner optimizer's step; every few ones also move the slow weights."""
        with Uninterrupted(), self.internals.engine:
            before = self.step_count
            is_next = self._numbers["ahead"] + 1 >= self._period()
            move = self._outer(before) if is_next else None
            result = self.inner.step(grads, loss=loss, stats=stats)
            self._numbers["ahead"] += self.step_count - before
            if move is not None and self._numbers["ahead"] >= self._period():
                move()
                self._numbers["ahead"] = 0
        return result

    def _period(self) -> int:
        """Steps inside from one move of the slow weights to the next."""
        raise NotImplementedError

    def _outer(self, step: int) -> Callable[[], None]:
        """What moves the slow weights and puts the parameters where they go on from."""
        raise NotImplementedError


class Lookahead(SlowWeights):
    r"""Let any optimizer make k fast steps, then restart from slow weights moved part of the way.

    .. math::
        \phi \leftarrow \phi + \alpha (x - \phi), \quad x \leftarrow \phi
            \quad \text{after every } k \text{ steps}

    State: one array (:math:`\phi`, the slow weights). `OuterMomentum` moves them with momentum.

    Args:
        optimizer: The optimizer that makes the fast steps.
        k: Fast steps per update of the slow weights.
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
        )

    def _period(self) -> int:
        return int(self.k)

    def _outer(self, step: int) -> Callable[[], None]:
        slow, points = self._arrays["slow"], self._points
        approach = Approach(slow, points)  # what it needs is there before the step

        def move() -> None:
            approach.move(self.alpha)
            assign(points, slow)

        return move


def _nesterov(x: Array, slow: Array, b: Array, lr: float, momentum: float) -> Array:
    way = slow - x
    b[...] = momentum * b + way
    slow -= lr * (way + momentum * b)
    return slow


def _heavy_ball(x: Array, slow: Array, b: Array, lr: float, momentum: float) -> Array:
    b[...] = momentum * b + (slow - x)
    slow -= lr * b
    return slow


def _ema(x: Array, slow: Array, m: Array, lr: float, momentum: float) -> Array:
    m[...] = momentum * m + (1 - momentum) * (x - slow)
    slow[...] = x
    ahead: Array = slow + lr * m
    return ahead


def _gpa(x: Array, slow: Array, ahead: Array, lr: float, momentum: float) -> Array:
    # Where the steps inside began; `ahead` is z - slow.
    ahead += x - (slow + (1 - momentum) * ahead)
    slow += lr * ahead
    ahead *= 1 - lr
    there: Array = slow + (1 - momentum) * ahead
    return there


class Form(NamedTuple):
    """One form of outer momentum, with the numbers that its authors use."""

    move: Callable[..., Array]
    every: int
    lr: float
    momentum: float
    most: float  # the largest rate


FORMS = {
    "nesterov": Form(_nesterov, 30, 0.7, 0.5, math.inf),
    "heavy_ball": Form(_heavy_ball, 30, 0.7, 0.5, math.inf),
    "ema": Form(_ema, 1, 0.6, 0.99, math.inf),
    "gpa": Form(_gpa, 1, 0.0033, 0.7, 1.0),
}


class OuterMomentum(SwapsAverage, SlowWeights):
    r"""Give any optimizer momentum from the outside, taken from where its own steps lead.

    With :math:`\phi` the slow weights, and :math:`x` where ``every`` steps inside have led, one of

    .. math::
        \text{nesterov:}\quad & b \leftarrow \mu b + \phi - x, \quad
            \phi \leftarrow \phi - \eta (\phi - x + \mu b), \quad x \leftarrow \phi \\
        \text{heavy\_ball:}\quad & b \leftarrow \mu b + \phi - x, \quad
            \phi \leftarrow \phi - \eta b, \quad x \leftarrow \phi \\
        \text{ema:}\quad & m \leftarrow \mu m + (1 - \mu) (x - \phi), \quad
            \phi \leftarrow x, \quad x \leftarrow \phi + \eta m \\
        \text{gpa:}\quad & z \leftarrow z + x - y, \quad
            \phi \leftarrow (1 - \eta) \phi + \eta z, \quad
            x \leftarrow y = \mu \phi + (1 - \mu) z

    The answer is :math:`\phi`: ``eval_params()`` gives it, ``with opt.averaged():`` puts it into
    the parameters temporarily. Without momentum, ``nesterov`` is `Lookahead`. State: two arrays
    (``slow``, and ``velocity``, which holds :math:`b`, :math:`m` or :math:`z - \phi`).

    Args:
        optimizer: The optimizer whose steps are taken.
        every: Its steps from one move to the next; the form's own (30, 30, 1, 1) for None.
        outer_lr: :math:`\eta`, a number or a schedule of the steps taken; 0.7, 0.7, 0.6, 0.0033
            for None. In ``ema`` the authors let it follow the rate inside, with 0 in warm-up and at
            the end.
        outer_momentum: :math:`\mu`; 0.5, 0.5, 0.99, 0.7 for None.
        form: ``"nesterov"`` (DiLoCo, with one worker; SNOO), ``"heavy_ball"``, ``"ema"``
            (EMA-Nesterov) or ``"gpa"`` (generalized primal averaging).

    Source: nesterov, Douillard et al. 2023, arXiv:2311.08105, Algorithm 1, and Kallusky et al.
    2025, arXiv:2510.15830, by the SGD of torch; ema, Yau et al. 2026, arXiv:2605.25395; gpa,
    Defazio et al. 2025, arXiv:2512.17131, around AdamW as the authors' GPAAdamW, with
    ``outer_momentum`` for ``train_interp_coeff`` and ``outer_lr`` for 1 - ``eval_interp_coeff``.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([4.0])
        >>> opt = ss.OuterMomentum(ss.SGD(x, lr=1.0), 2, outer_lr=0.5, outer_momentum=0.5)
        >>> for _ in range(2):
        ...     opt.step(np.array([1.0]))
        >>> x
        array([2.5])
    """

    def __init__(
        self,
        optimizer: Any,
        every: int | None = None,
        outer_lr: float | Callable[[int], float] | None = None,
        outer_momentum: float | None = None,
        *,
        form: str = "nesterov",
    ) -> None:
        super().__init__(optimizer)
        self._refuse_sets(optimizer)
        chosen = FORMS[choice("OuterMomentum: form", form, tuple(FORMS))]
        momentum = chosen.momentum if outer_momentum is None else outer_momentum
        self._set(form=form)
        self._set(
            every=self._count("every", chosen.every if every is None else every),
            outer_lr=chosen.lr if outer_lr is None else outer_lr,
            outer_momentum=self._weight(momentum),
        )
        self._rate(0)
        self._arrays["velocity"] = [np.zeros_like(slow) for slow in self._arrays["slow"]]

    def _refuse_sets(self, optimizer: Any) -> None:
        """Refuse what holds the parameters in a set, which momentum leaves."""
        inner = optimizer
        while isinstance(inner, Wrapper) and not isinstance(inner, Project):
            inner = inner.inner
        if isinstance(inner, Project) or self.internals.options.bounds is not None:
            held = "the set of Project" if isinstance(inner, Project) else "bounds and l1"
            raise ValueError(
                f"OuterMomentum: {held} of {type(optimizer).__name__} would not hold, since "
                "momentum leads out of them; leave them out, or take ss.Lookahead, which stays "
                "inside"
            )

    def _weight(self, momentum: float) -> float:
        label = "OuterMomentum: outer_momentum"
        return number(label, momentum, 0.0, 1.0, high_open=self.form != "gpa")

    def _rate(self, step: int) -> float:
        lr = self.outer_lr(step) if callable(self.outer_lr) else self.outer_lr
        return self._number("outer_lr", lr, 0.0, FORMS[self.form].most, open_low=False)

    def _period(self) -> int:
        return int(self.every)

    def _outer(self, step: int) -> Callable[[], None]:
        rate, momentum, form = self._rate(step + 1), self.outer_momentum, FORMS[self.form].move

        def move() -> None:
            for i, leaf in enumerate(self._points):
                slow, velocity = (view_as_real(arrays[i]) for arrays in self._arrays.values())
                point = view_as_real(leaf)
                point[...] = form(to_float32(point), slow, velocity, rate, momentum)

        return move

    def _averages(self) -> list[Array]:
        return copies(self._arrays["slow"])

    def _keep_training(self, training: list[Array] | None) -> None:
        self._set(_training=training)
