"""Minimising one function with any rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stepsize.arrays import (
    FLOATS,
    Array,
    Nest,
    copy,
    flatten,
    loss_and_grads,
    map_leaves,
    sum_of_squares,
)
from stepsize.finder.find import lr_find
from stepsize.optimizers import LBFGS, Optimizer
from stepsize.optimizers.registration import find_rule
from stepsize.schedules import flat_cosine
from stepsize.training.history import History
from stepsize.validation import number, whole

Function = Callable[[Nest], tuple[float, Nest]]


@dataclass(frozen=True)
class Result:
    """What `minimize` found; print it to read it.

    `x` is the point where it converged, or else the best one seen, nested as `x0` was. `fun`,
    `grad` and `grad_norm` (the largest component of the gradient) belong to it. `message` says why
    it ended. `nit` counts steps, `nfev` calls of the function in all, those of the range test
    included. `lr` is the rate or schedule that was used, `history` has one row per step.
    """

    x: Nest
    fun: float
    grad: Nest = field(repr=False)
    grad_norm: float
    nit: int
    nfev: int
    converged: bool
    message: str
    rule: str
    lr: Any
    history: History = field(repr=False)

    def __str__(self) -> str:
        rate = f"{self.lr:.3g}" if isinstance(self.lr, numbers.Real) else str(self.lr)
        leaves = flatten(self.x)[0]
        lines = [
            f"{'converged' if self.converged else 'not converged'}: {self.message}",
            f"f = {self.fun:.6g}, largest component of the gradient {self.grad_norm:.2e}",
            f"{self.rule}, lr {rate}: {self.nit} steps, {self.nfev} calls of the function",
        ]
        if sum(leaf.size for leaf in leaves) <= 10:
            lines.append(f"x = {self.x}")
        return "\n".join(lines)


def minimize(
    fun_and_grad: Function,
    x0: Nest,
    rule: str | type[Optimizer] = "adam",
    lr: Any = "auto",
    *,
    max_iter: int = 1000,
    gtol: float = 1e-5,
    ftol: float = 0.0,
    patience: int = 50,
    callback: Callable[[Result], Any] | None = None,
    **options: Any,
) -> Result:
    r"""Go down from `x0` until the gradient is small, and tell what was found.

    For a function whose value is the same at every call. For batches of data there is `ss.fit`.

    Args:
        fun_and_grad: ``x -> (value, gradient)``, the gradient in the nesting of ``x``. It must not
            keep ``x``, which changes in place.
        x0: numbers, an array, or a nest of arrays; it is copied. Whole numbers become float64.
        rule: the name of a rule, such as "adamw" or "lbfgs", or an optimizer class.
        lr: a number, a schedule of steps, None for the default of the rule, or "auto": what
            `ss.lr_find` suggests, for half of ``max_iter``, and then half a cosine wave down to 0.
            Rules that find their rate keep their default.
        max_iter: the most steps.
        gtol: converged where no component of the gradient is larger.
        ftol: converged where the best value of the last ``patience`` steps is not lower, by more
            than this share of it, than the best before them. 0 switches this off.
        callback: called after each step with the `Result` as it would be now; a true answer ends.
        options: further keywords of the rule, such as ``weight_decay`` or ``clip_norm``.

    Returns:
        A `Result` with the best point seen. A rule that answers with an average is asked for it.

    Raises:
        ValueError, TypeError: an argument is unusable, or the value or gradient at `x0` is not
            finite. A value that stops being finite later ends the run.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> result = ss.minimize(lambda x: (x @ x / 2, x.copy()), [3.0, -2.0])
        >>> result.converged, bool(abs(result.x).max() < 1e-5)
        (True, True)
    """
    _check(max_iter=max_iter, patience=patience, gtol=gtol, ftol=ftol)
    cls = find_rule(rule, "minimize")
    if options.get("maximize"):
        raise ValueError("minimize: maximize=True goes with an optimizer; negate the function here")
    x = _floats(x0)
    seen = _Seen(fun_and_grad, x)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        seen.look(x)
        if not seen.last.finite:
            raise ValueError(f"minimize: at x0 {seen.last.trouble}; start where it is finite")
        rate = _rate(cls, x, lr, seen, max_iter, options)
        if cls is LBFGS:
            # One iteration at a time, so that each has its row in the history; the end is ours.
            ours = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
            options = {**ours, "tolerance_grad": gtol, "tolerance_change": 1e-20, **options}
        optimizer = cls(x, rate, **options)
        run = _Run(seen, optimizer, callback, gtol, ftol, patience)
        run.go(max_iter)
        return run.result()


def _check(**settings: float) -> None:
    for name, value in settings.items():
        if name in ("max_iter", "patience"):
            whole(f"minimize: {name}", value)
        else:
            number(f"minimize: {name}", value, 0.0, high_open=False)


def _floats(x0: Nest) -> Nest:
    """A copy of the start, of arrays that can be updated."""
    plain = isinstance(x0, list | tuple) and all(isinstance(v, numbers.Number) for v in x0)

    def one(leaf: Any) -> Array:
        array = np.array(leaf)
        if array.dtype.kind in "iub":
            return array.astype(np.float64)
        if array.dtype not in FLOATS:
            raise TypeError(f"minimize: x0 has dtype {array.dtype}, expected float32 or float64")
        return array

    return one(x0) if plain else map_leaves(one, x0)


def _rate(
    cls: type[Optimizer], x: Nest, lr: Any, seen: _Seen, max_iter: int, options: dict[str, Any]
) -> Any:
    if not isinstance(lr, str):
        return lr
    if lr != "auto":
        raise ValueError(f"minimize: lr must be a number, a schedule, None or 'auto', got {lr!r}")
    if cls.adapts_lr:
        return None
    found = lr_find(
        lambda p, _: seen.function(p),
        x,
        [None],
        optimizer=lambda params: cls(params, **options),
        progress=False,
    )
    seen.calls += found.gradients
    if not found.usable:
        return None
    return flat_cosine(found.suggestion, max_iter, flat=0.5)


class _Seen:
    """The function, what it said last, and the best it said so far."""

    def __init__(self, function: Function, x: Nest) -> None:
        self.function = function
        self.calls = 0
        self.at: list[Array] = []
        self.best = _Point(copy(x), math.inf, None, math.nan)

    def look(self, x: Nest) -> tuple[float, Nest]:
        """Value and gradient; a point asked about twice in a row is evaluated once."""
        if not self.at or self.moved(x):
            value, grads = loss_and_grads(self.function(x), "fun_and_grad")
            self.calls += 1
            self.at = [leaf.copy() for leaf in flatten(x)[0]]
            tops = [float(np.abs(g).max(initial=0.0)) for g in flatten(grads)[0]]
            largest = math.nan if any(map(math.isnan, tops)) else max(tops, default=0.0)
            self.last = _Point(x, value, grads, largest)
            if self.last.finite and self.last.fun < self.best.fun:
                self.choose()
        return self.last.fun, self.last.grad

    def moved(self, x: Nest) -> bool:
        """Whether this is another point than the last one looked at."""
        return not all(map(np.array_equal, flatten(x)[0], self.at))

    def choose(self) -> None:
        """Take the last point as the best."""
        self.best = replace(self.last, x=copy(self.last.x), grad=copy(self.last.grad))


@dataclass(frozen=True)
class _Point:
    x: Nest
    fun: float
    grad: Nest
    largest: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.fun) and math.isfinite(self.largest)

    @property
    def trouble(self) -> str:
        value = f"the value is {self.fun}"
        return "the gradient is not finite" if math.isfinite(self.fun) else value


@dataclass
class _Run:
    """Steps until something ends them."""

    seen: _Seen
    optimizer: Any
    callback: Callable[[Result], Any] | None
    gtol: float
    ftol: float
    patience: int
    steps: int = 0
    converged: bool = False
    message: str = ""
    history: History = field(default_factory=History)
    bests: list[float] = field(default_factory=list)

    def go(self, max_iter: int) -> None:
        """Step until the end; the last point is looked at too."""
        seen, optimizer = self.seen, self.optimizer
        while not self.over(max_iter):
            lr, (value, grads) = float(optimizer.lr), seen.look(optimizer.params)
            norm = math.sqrt(sum(map(sum_of_squares, flatten(grads)[0])))
            if optimizer.needs_closure:
                before = [leaf.copy() for leaf in seen.at]
                optimizer.step(seen.look)
                leaves = flatten(optimizer.params)[0]
                if all(map(np.array_equal, leaves, before)):
                    self.message = "the line search finds no lower point"
            else:
                optimizer.step(grads, loss=value)
            self.steps += 1
            self.history.append(self.steps, 0, value, lr, norm)
            if self.callback is not None and self.callback(self.result()):
                self.message = "the callback ended it"
        if hasattr(optimizer, "averaged") and seen.last.finite and not self.converged:
            with optimizer.averaged() as params:
                seen.look(params)
                self.converged = seen.best.largest <= self.gtol
        self.history.stopped = self.message

    def over(self, max_iter: int) -> bool:
        """Whether it ends here; the message then says why."""
        seen = self.seen
        seen.look(self.optimizer.params)
        self.bests.append(seen.best.fun)
        if self.message:
            return True
        if not seen.last.finite:
            self.message = f"after step {self.steps} {seen.last.trouble}; give a smaller lr"
        elif seen.last.largest <= self.gtol:
            self.converged = True
            self.message = f"no component of the gradient exceeds gtol={self.gtol:g}"
            seen.choose()
        elif self.flat():
            self.converged = True
            self.message = f"{self.patience} steps changed the best value by less than ftol"
        elif self.steps >= max_iter:
            self.message = f"max_iter={max_iter} steps were made"
        return bool(self.message)

    def flat(self) -> bool:
        """Whether the best value hardly fell for a while."""
        if not self.ftol or len(self.bests) <= self.patience:
            return False
        now, before = self.bests[-1], self.bests[-1 - self.patience]
        return before - now <= self.ftol * max(abs(now), abs(before))

    def result(self) -> Result:
        """What there is to say now."""
        best = self.seen.best
        return Result(
            x=copy(best.x),
            fun=best.fun,
            grad=copy(best.grad),
            grad_norm=best.largest,
            nit=self.steps,
            nfev=self.seen.calls,
            converged=self.converged,
            message=self.message,
            rule=type(self.optimizer).__name__,
            lr=self.optimizer._tables[0]["lr"],
            history=self.history,
        )
