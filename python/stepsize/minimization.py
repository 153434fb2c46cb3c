"""Minimising one function with any rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepsize.arrays import (
    COMPLEX,
    FLOATS,
    Array,
    Nest,
    copy,
    flatten,
    map_leaves,
    norm,
)
from stepsize.finder.evaluations import Evaluations
from stepsize.finder.find import lr_find
from stepsize.finder.rehearsed import rehearsed_rate
from stepsize.finder.results import frame
from stepsize.optimizers import LBFGS, Optimizer
from stepsize.optimizers.registration import find_rule
from stepsize.schedules import Schedule, constant, flat_cosine
from stepsize.training.history import History
from stepsize.validation import number, whole

Function = Callable[[Nest], tuple[float, Nest]]

UNBOUNDED = 1e3  # times the start: a fall so large, at a gradient that stays, has no end in sight
SEARCHED = "while looking for the rate"
LONG = 400  # steps from which on rehearsals pay


@dataclass(frozen=True, repr=False)
class Result:
    """What `minimize` found; print it to read it.

    `x` is the best point seen, in the search for the rate or in a step, nested as `x0` was. `fun`,
    `grad` and `grad_norm` (the largest component of the gradient) belong to it. `message` says why
    it ended. `nit` counts steps, `nfev` calls of the function in all, those of the search for the
    rate included. `lr` is the rate or schedule that was used, `history` has one row per step.
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

    def to_pandas(self) -> Any:
        """The history as a `pandas.DataFrame`, one row per step."""
        return frame({name: self.history[name] for name in self.history})

    def __repr__(self) -> str:
        return (
            f"<Result f={self.fun:.6g}, {'converged' if self.converged else 'not converged'}, "
            f"{self.rule}, {self._cost()}>"
        )

    def _cost(self, of: str = "") -> str:
        """Steps and calls; a search that met the answer needed no step."""
        calls = f"{self.nfev} call{'s' if self.nfev != 1 else ''}{of}"
        if self.nit:
            return f"{self.nit} step{'s' if self.nit != 1 else ''}, {calls}"
        if self.nfev > 1 and SEARCHED in self.message:
            return f"{calls}, all in the search for the rate"
        return f"{calls}, no step"

    def __str__(self) -> str:
        rate = f"{self.lr:.3g}" if isinstance(self.lr, numbers.Real) else str(self.lr)
        leaves = flatten(self.x)[0]
        lines = [
            f"{'converged' if self.converged else 'not converged'}: {self.message}",
            f"f = {self.fun:.6g}, largest component of the gradient {self.grad_norm:.2e}",
            f"{self.rule}, lr {rate}: {self._cost(' of the function')}",
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
    r"""Minimize a function from `x0` until its gradient is small.

    For a function without noise, whose value is the same at every call. For batches of data there
    is `ss.fit`.

    A start whose gradient is exactly 0 has not converged where the function is lower beside it, as
    two more calls tell: that is a maximum, a saddle, or a gradient that is wrong.

    Args:
        fun_and_grad: ``x -> (value, gradient)``, the gradient in the nesting of ``x``. It gets a
            copy of the point, and its gradient is copied.
        x0: numbers, an array, or a nest of arrays; it is copied. Whole numbers become float64.
        rule: the name of a rule, such as "adamw" or "lbfgs", or an optimizer class.
        lr: a number, a schedule of steps, None for the default of the rule, or "auto": what
            `ss.lr_find` suggests, for half of ``max_iter``, and then half a cosine wave down to 0.
            From 400 steps on, up to eight rehearsals of an eighth of them, at rates half a decade
            apart, correct it; they cost at most as many calls as the steps. Learning-rate-free
            rules keep their default, and FTRL, which a falling rate would take back towards 0,
            keeps the rate found.
        max_iter: the most steps.
        gtol: converged where no component of the gradient at the best point is larger.
        ftol: converged where the last value is the best one within this share of it, and the best
            value fell by no more in the last ``patience`` steps. 0 switches this off.
        callback: called after each step with the `Result` as it would be now; a true answer ends.
        options: further keywords of the rule, such as ``weight_decay`` or ``clip_norm``.

    Returns:
        A `Result` with the best point seen. A rule that answers with an average is asked for it.

    Raises:
        ValueError, TypeError: an argument is unusable, there is no gradient, or the value or
            gradient at `x0` is not finite. A value that stops being finite later ends the run.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> result = ss.minimize(lambda x: (x @ x / 2, x.copy()), [3.0, -2.0])
        >>> result.converged, bool(abs(result.x).max() < 1e-5)
        (True, True)
    """
    return run(
        fun_and_grad, x0, rule, lr, max_iter, gtol, ftol, patience, callback, options, refuse=True
    )


def run(
    fun_and_grad: Function,
    x0: Nest,
    rule: str | type[Optimizer],
    lr: Any,
    max_iter: int,
    gtol: float,
    ftol: float,
    patience: int,
    callback: Callable[[Result], Any] | None,
    options: Mapping[str, Any],
    *,
    refuse: bool,
) -> Result:
    """What `minimize` does; a start that is not finite is an error, or a result of no step."""
    _check(fun_and_grad, callback, max_iter=max_iter, patience=patience, gtol=gtol, ftol=ftol)
    cls = find_rule(rule, "minimize")
    if options.get("maximize"):
        raise ValueError("minimize: maximize=True goes with an optimizer; negate the function here")
    x = _floats(x0)
    if cls is LBFGS:
        # One iteration at a time, so that each has its row in the history; the end is ours.
        ours = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
        options = {**ours, "tolerance_grad": gtol, "tolerance_change": 1e-20, **options}
    cls(copy(x), None if isinstance(lr, str) else lr, **options)  # refuses what is wrong at once
    seen = Evaluations(fun_and_grad, x)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        start = seen.look(x)
        if not start.finite and refuse:
            raise ValueError(f"minimize: at x0 {start.trouble}; start where it is finite")
        trouble = seen.lower_beside(x) if start.finite and start.largest == 0 else ""
        known = start.largest <= gtol or not start.finite
        rate = _rate(cls, x, lr, seen, max_iter, options, known)
        steps = _Steps(seen, cls(x, rate, **options), rate, callback, gtol, ftol, patience)
        if not start.finite:
            trouble = f"at x0 {start.trouble}; start where it is finite"
        if trouble:
            steps.message = trouble
        else:
            steps.go(max_iter)
        return steps.result()


def _check(function: Any, callback: Any, **settings: float) -> None:
    if not callable(function):
        raise TypeError(
            "minimize: fun_and_grad must be a function x -> (value, gradient), got "
            f"{function!r:.80}"
        )
    if callback is not None and not callable(callback):
        raise TypeError(
            f"minimize: callback must be a function of a Result or None, got {callback!r:.80}"
        )
    for name, value in settings.items():
        if name in ("max_iter", "patience"):
            whole(f"minimize: {name}", value)
        else:
            number(f"minimize: {name}", value, 0.0, high_open=False)


def _floats(x0: Nest) -> Nest:
    """A copy of the start, of arrays that can be updated."""
    plain = isinstance(x0, list | tuple) and all(isinstance(v, numbers.Number) for v in x0)

    def one(leaf: Any) -> Array:
        if isinstance(leaf, np.ma.MaskedArray):
            raise TypeError(
                "minimize: x0 holds a masked array, whose mask would be lost; give the numbers to "
                "search, x0.compressed(), and put the others in the function"
            )
        array = np.array(leaf)
        if array.dtype.kind in "iub":
            return array.astype(np.float64)
        if array.dtype not in (*FLOATS, *COMPLEX):
            raise TypeError(
                f"minimize: x0 has dtype {array.dtype}, expected float32, float64, complex64 or "
                "complex128"
            )
        return array

    found = one(x0) if plain else map_leaves(one, x0)
    leaves = flatten(found)[0]
    if leaves and not sum(leaf.size for leaf in leaves):
        raise ValueError(f"minimize: x0 holds no number, got {x0!r:.80}; give at least one")
    return found


def _rate(
    cls: type[Optimizer],
    x: Nest,
    lr: Any,
    seen: Evaluations,
    max_iter: int,
    options: Mapping[str, Any],
    known: bool,
) -> Any:
    """The rate that was given, or the schedule of the one found; `known` needs no search."""
    if not isinstance(lr, str):
        return lr
    if lr != "auto":
        raise ValueError(
            f"minimize: lr must be a number, a schedule, None or 'auto', got {lr!r:.80}"
        )
    if cls.adapts_lr or known:
        return None

    def make(params: Nest) -> Optimizer:
        return cls(params, **options)

    plan = _constant if cls.steady_lr else _schedule
    found = lr_find(seen.called, x, [None], optimizer=make, progress=False)
    rate = found.suggestion if found.usable else None
    if max_iter >= LONG:
        start = found.probes[0][0] if found.usable else float(make(copy(x)).lr)
        rate = rehearsed_rate(seen.called, x, make, plan, start, max_iter)
    return rate if rate is None or cls.steady_lr else plan(rate, max_iter)


def _schedule(rate: float, steps: int) -> Schedule:
    return flat_cosine(rate, steps, flat=0.5)


def _constant(rate: float, steps: int) -> Schedule:
    return constant(rate)


@dataclass
class _Steps:
    """Steps until something ends them."""

    seen: Evaluations
    optimizer: Any
    rate: Any
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
            lr, point = float(optimizer.lr), seen.look(optimizer.params)
            size = norm(flatten(point.grad)[0])
            if optimizer.needs_closure:
                before = [leaf.copy() for leaf in seen.at]
                optimizer.step(seen.closure)
                leaves = flatten(optimizer.params)[0]
                if all(map(np.array_equal, leaves, before)):
                    self.message = "the line search finds no lower point"
            else:
                optimizer.step(point.grad, loss=point.fun)
            self.steps += 1
            self.history.append(self.steps, 0, point.fun, lr, size)
            if self.callback is not None and self.callback(self.result()):
                self.message = "the callback ended it"
        if hasattr(optimizer, "averaged") and seen.last.finite and not self.converged:
            with optimizer.averaged() as params:
                seen.look(params)
                self.converged = seen.best.largest <= self.gtol
        self.history.stopped = self.message

    def over(self, max_iter: int) -> bool:
        """Whether it ends here; the message then says why.

        It has converged where the best point seen, which is the answer, has a small gradient. A
        small gradient elsewhere, as on a plateau that a long step ended on, does not do.
        """
        seen, last = self.seen, self.seen.look(self.optimizer.params)
        self.bests.append(seen.best.fun)
        if seen.best.largest <= self.gtol:
            self.converged = True
            self.message = f"no component of the gradient exceeds gtol={self.gtol:g}"
            if not self.steps and seen.calls - seen.beside > 1:
                self.message += f", at a point seen {SEARCHED}"
        elif self.message:
            pass
        elif not last.finite:
            self.message = f"after step {self.steps} {last.trouble}; give a smaller lr"
        elif last.largest <= self.gtol and last.fun > seen.start:
            self.message = (
                f"step {self.steps} ended on a plateau at {last.fun:.6g}, above the start of "
                f"{seen.start:.6g}; give a smaller lr"
            )
        elif self.flat():
            self.converged = True
            self.message = f"{self.patience} steps changed the best value by less than ftol"
        elif self.steps >= max_iter:
            self.message = f"max_iter={max_iter} steps were made"
        if self.message and not self.converged and self.unbounded():
            self.message = (
                f"{self.message.partition('; ')[0]}; the function seems to be unbounded below: it "
                f"fell to {min(seen.best.fun, last.fun):.3g}, where its gradient is as large as at "
                "the start; bound it, or look for a sign that is wrong"
            )
        return bool(self.message)

    def unbounded(self) -> bool:
        """Whether the value fell without an end, along a gradient that does not shrink."""
        seen, last = self.seen, self.seen.last
        if last.fun == -math.inf:
            return True
        fell = UNBOUNDED * max(1.0, abs(seen.start)) < seen.start - seen.best.fun
        return fell and seen.best.fun < 0 and not seen.best.largest < seen.start_largest

    def flat(self) -> bool:
        """Whether the best value hardly fell for a while, and the last one is as low."""
        if not self.ftol or len(self.bests) <= self.patience:
            return False
        now, before, last = self.bests[-1], self.bests[-1 - self.patience], self.seen.last.fun
        return max(before, last) - now <= self.ftol * max(abs(now), abs(before))

    def result(self) -> Result:
        """What there is to say now."""
        best = self.seen.best if self.seen.best.finite else self.seen.last
        default = float(self.optimizer.lr) if self.rate is None else self.rate
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
            lr=default,
            history=self.history,
        )
