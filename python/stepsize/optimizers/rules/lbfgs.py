"""L-BFGS: a quasi-Newton method for smooth problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from stepsize.arrays import Array, Nest, value_and_grad_of, view_as_complex, view_as_real
from stepsize.optimizers.fields import Choice, Value, count, nonnegative
from stepsize.optimizers.gradients import gather
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.primitives import sum_of_blocks
from stepsize.optimizers.rules.line_search import Trial, is_finite, strong_wolfe
from stepsize.optimizers.slots import signed
from stepsize.optimizers.transaction import Uninterrupted, assign

__all__ = ["LBFGS"]

_SMALLEST_CURVATURE = 1e-10


class LBFGS(Optimizer):
    r"""Quasi-Newton method with an inverse Hessian from recent changes, for smooth problems.

    .. math::
        d = -H g, \quad x \leftarrow x + t d, \quad
        H \approx (\nabla^2 f)^{-1} \text{ from } y_k = g_{k+1} - g_k,\ s_k = x_{k+1} - x_k

    ``step`` takes the function, not its gradients, and makes up to ``max_iter`` iterations:
    ``opt.step(value_and_grad)`` calls ``value_and_grad(params) -> (loss, grads)`` and returns the
    loss before the step. The function must be the same at each call: the full data set, not
    batches. State: 2 ``history_size`` + 2 arrays. Sums are taken in double precision.
    ``lr_effective`` is the last :math:`t`. Groups and gradient clipping are refused.

    Args:
        params: A nest of arrays, real or complex, updated in place.
        lr: First step length :math:`t` that is tried; without a line search, the only one.
        max_iter: The largest number of iterations in one step.
        max_eval: The largest number of calls of the function in one step; None for 5/4 of
            ``max_iter``.
        tolerance_grad: Stop when no component of the gradient is larger.
        tolerance_change: Stop when the change of parameters or loss is smaller.
        history_size: How many past changes are kept.
        line_search_fn: "strong_wolfe" (recommended) or None.

    Source: Nocedal & Wright 2006, Algorithms 7.4 and 7.5. As torch.optim.LBFGS.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([-1.2, 1.0])
        >>> opt = ss.LBFGS(x, line_search_fn="strong_wolfe", max_iter=100)
        >>> def rosenbrock(x):
        ...     a, b = 1 - x[0], x[1] - x[0] ** 2
        ...     return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])
        >>> loss = opt.step(rosenbrock)
        >>> bool(rosenbrock(x)[0] < 1e-8)
        True
    """

    lr = nonnegative(1.0)
    max_iter = count(20)
    max_eval = count(None)
    tolerance_grad = nonnegative(1e-7)
    tolerance_change = nonnegative(1e-9)
    history_size = count(100)
    line_search_fn: Any = Choice(None, "strong_wolfe")
    adapts_lr = True
    slots = (signed("direction"), signed("grad"), signed("changes"), signed("moves"))
    scalars: ClassVar = {"t": 0.0, "curvature": 1.0, "kept": 0.0, "iterations": 0.0, "calls": 0.0}
    scope = "all"
    shaped = True
    decay = "none"
    needs_closure = True

    def __init__(self, params: Nest, lr: Any = None, *others: Any, **keywords: Any) -> None:
        super().__init__(params, lr, *others, **keywords)
        options, several = self.internals.options, len(self.internals.groups.tables) > 1
        given = {
            "groups": several,
            "clip_norm": options.clip_norm is not None,
            "clip_value": options.clip_value is not None,
            "loss_scale": options.loss_scale is not None,
            f"on_nonfinite={options.on_nonfinite!r}": options.on_nonfinite != "raise",
        }
        for name in (name for name, there in given.items() if there):
            raise ValueError(
                f"LBFGS: {name} does not go with a line search, which needs the function as it is; "
                "leave it out"
            )

    def slot_shape(
        self, slot: str, leaf: Array, values: Mapping[str, Value]
    ) -> tuple[int, ...] | None:
        several = slot in ("changes", "moves")
        return (values["history_size"], *leaf.shape) if several else tuple(leaf.shape)

    def effective(self, s: SimpleNamespace, h: SimpleNamespace) -> float:
        return float(s.t)

    def step(  # type: ignore[override]
        self, value_and_grad: Callable[[Nest], tuple[float, Nest]]
    ) -> float:
        """Make up to ``max_iter`` iterations towards a minimum of the function.

        Args:
            value_and_grad: ``(loss, grads)`` of the parameters, which it must not change.

        Returns:
            The loss before the step.

        Raises:
            NonFiniteGradientError: If a gradient is not finite at a point the step goes on from:
                the first, or any without a line search, which stays clear of such points. A loss
                that is not finite is no matter there, since nothing but gradients is used.
            ValueError: If a line search finds the loss finite nowhere. In these cases, and if the
                function raises, nothing is changed.
            RuntimeError: If the function itself steps this optimizer, or another thread trains it.
        """
        if not callable(value_and_grad):
            raise TypeError(
                f"LBFGS: step takes the function value_and_grad(params) -> (loss, grads), got "
                f"{type(value_and_grad).__name__}"
            )
        engine = self.internals.engine
        with engine:  # steps of other threads wait
            engine.admit()
            engine.check(self.internals.host)
            search = _Search(self, partial(engine.evaluate, value_and_grad))
            try:
                loss = search.run()
            except BaseException:
                search.place(search.home)
                raise
            with Uninterrupted():
                search.keep()
        return loss


class _Search:
    """One step: the state as flat vectors in double precision, written back at the end."""

    def __init__(self, owner: LBFGS, function: Callable[[Nest], tuple[float, Nest]]) -> None:
        self.owner, self.function, self.parts = owner, function, owner.internals
        self.leaves: Sequence[Array] = self.parts.leaves.arrays
        self.sign = -1.0 if self.parts.options.maximize else 1.0
        self.h = SimpleNamespace(**owner.hyperparams)
        self.s = self.parts.scalars(0)
        self.x = self.home = _flat(self.leaves)
        self.direction, self.grad = self._slot("direction"), self._slot("grad")
        kept = range(int(self.s.kept))
        self.changes = [self._slot("changes", k) for k in kept]
        self.moves = [self._slot("moves", k) for k in kept]

    def _slot(self, name: str, *index: int) -> Any:
        return _flat([slots[name][index] for slots in self.parts.slots.arrays])

    def place(self, x: Array) -> None:
        assign(self.leaves, _split(x, self.leaves))

    def evaluate(self, x: Array) -> tuple[float, Array]:
        self.place(x)
        loss, grads = value_and_grad_of(self.function, self.owner.params, owner="LBFGS")
        self.s.calls += 1
        flat = gather(self.parts, grads)
        given = [
            np.zeros_like(leaf) if g is None else g
            for leaf, g in zip(self.leaves, flat, strict=True)
        ]
        return self.sign * float(loss), self.sign * _flat(given)

    def run(self) -> float:
        h, s = self.h, self.s
        loss, grad = first, _ = self.evaluate(self.x)
        self.require_finite(grad)
        calls, most = 1, h.max_eval or h.max_iter * 5 // 4
        for iteration in range(1, h.max_iter + 1):
            if _largest(grad) <= h.tolerance_grad:
                break
            s.iterations += 1
            self.turn(grad)
            slope = _dot(grad, self.direction)
            s.t = min(1.0, 1.0 / sum_of_blocks(np.abs(grad))) * h.lr if s.iterations == 1 else h.lr
            if not -math.inf < slope <= -h.tolerance_change:
                break
            before = loss
            if h.line_search_fn is not None:
                start = Trial(0.0, loss, grad, slope)
                reach = _largest(self.direction)
                found, used = strong_wolfe(
                    self.along, start, s.t, reach, h.tolerance_change, most - calls
                )
                if not is_finite(found):
                    self.parts.host.fail("number", "loss", self.sign * found.loss)
                s.t, loss, grad = found.t, found.loss, found.grad
                self.x = self.x + s.t * self.direction
            else:
                self.x, used = self.x + s.t * self.direction, 0
                if iteration < h.max_iter:
                    (loss, grad), used = self.evaluate(self.x), 1
                    self.require_finite(grad)
            calls += used
            if calls >= most or _largest(s.t * self.direction) <= h.tolerance_change:
                break
            if abs(loss - before) < h.tolerance_change:
                break
        return self.sign * first

    def require_finite(self, grad: Array) -> None:
        for i, part in enumerate(_split(grad, self.leaves)):
            if not np.all(np.isfinite(part)):
                self.parts.host.fail("gradient", i)

    def along(self, t: float) -> Trial:
        loss, grad = self.evaluate(self.x + t * self.direction)
        return Trial(t, loss, grad, _dot(grad, self.direction))

    def turn(self, grad: Array) -> None:
        """The next direction by the two-loop recursion, Algorithm 7.4."""
        s = self.s
        if s.iterations > 1:
            change, move = grad - self.grad, s.t * self.direction
            product = _dot(change, move)
            if product > _SMALLEST_CURVATURE:
                self.changes = [*self.changes, change][-self.h.history_size :]
                self.moves = [*self.moves, move][-self.h.history_size :]
                s.curvature = product / _dot(change, change)
        pairs = [(y, m, 1.0 / _dot(y, m)) for y, m in zip(self.changes, self.moves, strict=True)]
        q = -grad
        shares = []
        for y, m, weight in reversed(pairs):
            shares.append(_dot(m, q) * weight)
            q = q - shares[-1] * y
        q = q * s.curvature
        for (y, m, weight), share in zip(pairs, reversed(shares), strict=True):
            q = q + (share - _dot(y, q) * weight) * m
        self.direction, self.grad = q, grad

    def keep(self) -> None:
        """Write parameters, state and counters back."""
        self.place(self.x)
        self.s.kept = float(len(self.changes))
        rows = {"direction": [self.direction], "grad": [self.grad]}
        for name, vectors in {**rows, "changes": self.changes, "moves": self.moves}.items():
            for k, vector in enumerate(vectors):
                parts = _split(vector, self.leaves)
                for slots, part in zip(self.parts.slots.arrays, parts, strict=True):
                    slots[name][(k,) if name not in rows else ()] = part
        self.parts.set_scalars(0, self.s)
        engine = self.parts.engine
        engine.times = [t + 1 for t in engine.times]
        engine.step_count += 1


def _dot(a: Array, b: Array) -> float:
    """The inner product, in the fixed order of all sums."""
    return sum_of_blocks(a * b)


def _flat(arrays: Sequence[Array]) -> Any:
    flat = [np.asarray(view_as_real(array), np.float64).reshape(-1) for array in arrays]
    return np.concatenate(flat)


def _split(vector: Array, leaves: Sequence[Array]) -> list[Array]:
    seen = [view_as_real(leaf) for leaf in leaves]
    parts = np.split(vector, np.cumsum([leaf.size for leaf in seen])[:-1])
    return [
        view_as_complex(part.reshape(real.shape), leaf.dtype)
        for part, real, leaf in zip(parts, seen, leaves, strict=True)
    ]


def _largest(vector: Array) -> float:
    top = float(np.abs(vector).max(initial=0.0))
    return top if not math.isnan(top) else math.inf
