"""Sharpness-aware minimization (SAM), which takes gradients at a second point."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from stepsize.arrays import Array, Nest, norm, unflatten, value_and_grad_of, view_as_real
from stepsize.optimizers.gradients import gather
from stepsize.optimizers.half import to_float32
from stepsize.optimizers.snapshot import Snapshot
from stepsize.optimizers.transaction import Uninterrupted
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.validation import truth

__all__ = ["SAM"]


class SAM(Wrapper):
    r"""Sharpness-aware minimization: step with the gradient at the worst point nearby.

    .. math::
        e = \rho \frac{g(x)}{\|g(x)\|}, \quad
            \text{or, adaptive, } \rho \frac{x^2 g(x)}{\|x\, g(x)\|}; \quad
        \text{a step with } g(x + e)

    ``step`` takes the function, not its gradients: ``opt.step(value_and_grad)`` calls
    ``value_and_grad(params) -> (loss, grads)`` twice and returns the loss at :math:`x`. The norm is
    over all leaves together. A loss that is not finite stops a step where the optimizer needs it or
    a gradient is not finite, as a loss given to that optimizer: look at what is returned.

    Args:
        optimizer: The optimizer whose steps are taken.
        rho: :math:`\rho`, the radius.
        adaptive: Measure the radius relative to the parameters.

    Source: Foret et al. 2021, arXiv:2010.01412, Algorithm 1; adaptive, Kwon et al. 2021,
    arXiv:2102.11600, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([1.0])
        >>> opt = ss.SAM(ss.SGD(x, lr=0.1), rho=0.5)
        >>> opt.step(lambda x: (float(x @ x), 2 * x))
        1.0
        >>> x
        array([0.7])
    """

    needs_closure: ClassVar[bool] = True

    def __init__(self, optimizer: Any, rho: float = 0.05, *, adaptive: bool = False) -> None:
        super().__init__(optimizer)
        rho = self._number("rho", rho, 0.0, math.inf, open_low=False)
        self._set(rho=rho, adaptive=truth("SAM: adaptive", adaptive))

    def step(  # type: ignore[override]
        self, value_and_grad: Callable[[Nest], tuple[float, Nest]]
    ) -> float:
        """Make a step and return the loss before it; if the function raises, nothing is changed.

        RuntimeError where the function itself steps this optimizer, or another thread trains it.
        """
        if not callable(value_and_grad):
            raise TypeError(
                "SAM: step takes the function value_and_grad(params) -> (loss, grads), got "
                f"{type(value_and_grad).__name__}"
            )
        with self.internals.engine:  # steps of other threads wait
            return self._step(value_and_grad)

    def _step(self, value_and_grad: Callable[[Nest], tuple[float, Nest]]) -> float:
        self.internals.engine.admit()
        loss, grads = self._evaluate(value_and_grad)
        flat = [None if g is None else np.array(g) for g in gather(self.internals, grads)]
        pairs = [
            (view_as_real(g), view_as_real(leaf))
            for g, leaf in zip(flat, self._points, strict=True)
            if g is not None
        ]
        spec = self.internals.leaves.structure.spec
        if not all(np.isfinite(g).all() for g, _ in pairs):  # the optimizer refuses it or skips
            self.inner.step(unflatten(spec, flat), loss=loss)
            return loss
        ways = _scaled([g for g, _ in pairs])
        if self.adaptive:
            points = _scaled([leaf for _, leaf in pairs])
            ways = [way * point for way, point in zip(ways, points, strict=True)]
        size = norm(ways)
        home = Snapshot(self._points)
        with Uninterrupted([signal.SIGINT]):  # or the parameters could stay at the second point
            try:
                for (_, leaf), way in zip(pairs, ways, strict=True):
                    away = (self.rho / size if size else 0.0) * way
                    leaf += (leaf * away if self.adaptive else away).astype(leaf.dtype)
                _, grads = self._evaluate(value_and_grad)
                there = [None if g is None else np.array(g) for g in gather(self.internals, grads)]
            finally:
                home.restore()
            self.inner.step(unflatten(spec, there), loss=loss)
        return loss

    def _evaluate(self, function: Callable[[Nest], tuple[float, Nest]]) -> tuple[float, Nest]:
        watched = partial(self.internals.engine.evaluate, function)
        return value_and_grad_of(watched, self.params, owner="SAM", state=True)


def _scaled(numbers: list[Array]) -> list[Array]:
    """All of them over one power of two, near the largest: what is divided by a norm of these."""
    wide = [to_float32(array) for array in numbers]
    top = max((float(np.abs(array).max(initial=0)) for array in wide), default=0.0)
    return [np.ldexp(array, -math.frexp(top)[1]) for array in wide]
