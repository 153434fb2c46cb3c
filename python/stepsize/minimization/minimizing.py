"""Minimising one function with any rule."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    refuse_masked,
)
from stepsize.finder.evaluations import Evaluations
from stepsize.minimization.bounds import Bounds
from stepsize.minimization.calls import Calls, Limits
from stepsize.minimization.rates import rate_of
from stepsize.minimization.results import SEARCHED, Result
from stepsize.minimization.stalled import cause
from stepsize.names import ELSEWHERE
from stepsize.optimizers import LBFGS, Optimizer
from stepsize.optimizers.registration import find_rule
from stepsize.training.history import History

UNBOUNDED = 1e3  # times the start: a fall so large, at a gradient that stays, has no end in sight


def minimize(
    fun_and_grad: Callable[[Nest], Any],
    x0: Nest,
    rule: str | type[Optimizer] = "adam",
    lr: Any = "auto",
    *,
    max_iter: int = 1000,
    gtol: float = 1e-5,
    ftol: float = 0.0,
    patience: int = 50,
    callback: Callable[[Result], Any] | None = None,
    jac: Callable[[Nest], Nest] | bool | None = None,
    grad: str | None = None,
    tol: float | None = None,
    max_time: float | None = None,
    bounds: Any = None,
    **options: Any,
) -> Result:
    r"""Minimize a function from `x0` until its gradient is small.

    For a function without noise, whose value is the same at every call. For batches of data there
    is `ss.fit`.

    A start whose gradient is exactly 0 has not converged where the function is lower beside it, as
    two more calls tell: that is a maximum, a saddle, or a gradient that is wrong.

    Args:
        fun_and_grad: ``x -> (value, gradient)``, the gradient in the nesting of ``x``. It gets a
            copy of the point, and its gradient is copied. With ``jac`` or ``grad`` it returns the
            value alone.
        x0: numbers, an array, or a nest of arrays; it is copied. Whole numbers become float64.
        rule: the name of a rule, such as "adamw" or "lbfgs", or an optimizer class.
        lr: a number, a schedule of steps, None for the default of the rule, or "auto": what
            `ss.lr_find` suggests, for half of ``max_iter``, and then half a cosine wave down to 0.
            From 400 steps on, rehearsals correct it: rates half a decade apart and between run an
            eighth of the steps, the two best go on to a half, and the rate stays constant where
            that ended lower. They cost at most twice as many calls as the steps, and the run makes
            none again that they made. Learning-rate-free rules keep their default, and FTRL, which
            a falling rate would take back towards 0, keeps the rate found.
        max_iter: the most steps.
        gtol: converged where no component of the gradient at the best point is larger.
        ftol: converged where the last value is the best one within this share of it, and the best
            value fell by no more in the last ``patience`` steps. 0 switches this off.
        callback: called after each step with the `Result` as it would be now; a true answer ends.
        jac: the gradient as a function of its own, ``x -> gradient``; True where ``fun_and_grad``
            returns both, as by default.
        grad: "central", "forward", "complex_step" or "spsa": the gradient by differences, as
            `stepsize.gradients` makes it. ``nfev`` then counts the calls behind it too.
        tol: the same as ``gtol``, by SciPy's name.
        max_time: seconds after which no further step is made, those of the search for the rate
            included, which is not cut short but leaves out its rehearsals.
        bounds: a tuple ``(low, high)``, each a number, an array, a nest like ``x0`` or None; a list
            of pairs, one for each number of ``x0``; or SciPy's ``Bounds``. A tuple of two pairs
            for two numbers, which may be either, is refused. Steps end inside, and ``gtol`` and
            ``grad_norm`` speak of the projected gradient, P(x - g) - x.
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
    for name in options:
        for ours in ELSEWHERE.get(name, "").split():
            if ours in ("max_iter", "rule"):
                raise TypeError(f"minimize: unknown argument {name!r}; did you mean {ours}?")
    calls = Calls(fun_and_grad, jac, grad)
    gtol = gtol if tol is None else tol
    limits = Limits(max_iter, gtol, ftol, patience, max_time)
    return run(calls, x0, rule, lr, limits, callback, options, bounds, refuse=True)


def run(
    calls: Calls,
    x0: Nest,
    rule: str | type[Optimizer],
    lr: Any,
    limits: Limits,
    callback: Callable[[Result], Any] | None,
    options: Mapping[str, Any],
    bounds: Any = None,
    *,
    refuse: bool,
) -> Result:
    """What `minimize` does; a start that is not finite is an error, or a result of no step."""
    begun = time.monotonic()
    limits.check()
    if callback is not None and not callable(callback):
        raise TypeError(
            f"minimize: callback must be a function of a Result or None, got {callback!r:.80}"
        )
    cls = find_rule(rule, "minimize")
    if options.get("maximize"):
        raise ValueError("minimize: maximize=True goes with an optimizer; negate the function here")
    if options.get("l1") and "l1" not in cls.fields:
        raise ValueError(
            f"minimize: l1={options['l1']!r:.80} would not count in the gradient that says when it "
            f"has converged; step ss.{cls.__name__}(x, l1=...) yourself"
        )
    x = _floats(x0)
    if cls is LBFGS:
        # One iteration at a time, so that each has its row in the history; the end is ours.
        ours = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}
        options = {**ours, "tolerance_grad": limits.gtol, "tolerance_change": 1e-20, **options}
    cls(copy(x), None if isinstance(lr, str) else lr, **options)  # refuses what is wrong at once
    inside = None if bounds is None else Bounds(bounds, x)
    if inside is not None:
        calls.stay_inside(inside.sides())
    make = maker(cls, options, inside)
    seen = Evaluations(calls, x, None if inside is None else inside.largest)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        start = seen.look(x)
        if not start.finite and refuse:
            raise ValueError(f"minimize: at x0 {start.trouble}; start where it is finite")
        # Beside a corner of the bounds there may be a lower point outside of them.
        unmoved = start.finite and start.largest == 0 and inside is None
        trouble = seen.lower_beside(x) if unmoved else ""
        known = start.largest <= limits.gtol or not start.finite
        rate, doubt = rate_of(cls, x, lr, seen, limits, make, known)
        made = make(x, rate)
        steps = _Steps(seen, made, rate, callback, limits, begun, calls, doubt)
        if not start.finite:
            trouble = f"at x0 {start.trouble}; start where it is finite"
        if trouble:
            steps.message = trouble
        else:
            steps.go(limits.max_iter)
        return steps.result()


def maker(
    cls: type[Optimizer], options: Mapping[str, Any], bounds: Bounds | None
) -> Callable[..., Any]:
    """A function ``(params, lr=None) -> optimizer``, which stays inside of the bounds."""
    if bounds is not None and cls.needs_closure:
        raise ValueError(
            f"minimize: {cls.__name__} takes no bounds; give another rule, or use "
            "scipy.optimize.minimize(method='L-BFGS-B')"
        )

    def make(params: Nest, lr: Any = None) -> Any:
        sides = None if bounds is None else bounds.sides()
        return cls(params, lr, bounds=sides, **options)

    return make


def _floats(x0: Nest) -> Nest:
    """A copy of the start, of arrays that can be updated."""
    plain = isinstance(x0, list | tuple) and all(isinstance(v, numbers.Number) for v in x0)

    def one(leaf: Any) -> Array:
        cure = "give the numbers to search, x0.compressed(), and put the others in the function"
        refuse_masked("minimize", "x0", leaf, cure)
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
    if not sum(leaf.size for leaf in leaves):
        raise ValueError(f"minimize: x0 holds no number, got {x0!r:.80}; give at least one")
    return found


def _ends(answer: Any) -> bool:
    """Whether what a callback returned is true; an array of several numbers is neither."""
    try:
        return bool(answer)
    except (TypeError, ValueError):
        raise TypeError(
            "minimize: callback must return whether to end, True or False, or nothing; it returned "
            f"a {type(answer).__name__}"
        ) from None


@dataclass
class _Steps:
    """Steps until something ends them."""

    seen: Evaluations
    optimizer: Any
    rate: Any
    callback: Callable[[Result], Any] | None
    limits: Limits
    begun: float
    calls: Calls
    doubt: str = ""  # what speaks against the gradient
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
                    self.doubt = self.doubt or cause(seen, replace(point, x=optimizer.params))
            else:
                optimizer.step(point.grad, loss=point.fun)
            self.steps += 1
            self.history.append(self.steps, 0, point.fun, lr, size)
            if self.callback is not None and _ends(self.callback(self.result())):
                self.message = "the callback ended it"
        if seen.aside is not None:
            seen.take_back()
            if not self.converged and seen.best.largest <= self.limits.gtol:
                self.converged = True
                self.message = f"{self._small()}, at a point seen {SEARCHED}"
        if hasattr(optimizer, "averaged") and seen.last.finite and not self.converged:
            with optimizer.averaged() as params:
                seen.look(params)
                self.converged = seen.best.largest <= self.limits.gtol
        self.history.stopped = self.message

    def over(self, max_iter: int) -> bool:
        """Whether it ends here; the message then says why.

        It has converged where the best point seen, which is the answer, has a small gradient. A
        small gradient elsewhere, as on a plateau that a long step ended on, does not do.
        """
        seen, last = self.seen, self.seen.look(self.optimizer.params)
        self.bests.append(seen.best.fun)
        if seen.best.largest <= self.limits.gtol:
            self.converged = True
            self.message = self._small()
            if not self.steps and seen.calls - seen.beside > 1:
                self.message += f", at a point seen {SEARCHED}"
        elif self.message:
            pass
        elif not last.finite:
            self.message = f"after step {self.steps} {last.trouble}; give a smaller lr"
        elif last.largest <= self.limits.gtol and last.fun > seen.start:
            self.message = (
                f"step {self.steps} ended on a plateau at {last.fun:.6g}, above the start of "
                f"{seen.start:.6g}; give a smaller lr"
            )
        elif self.flat():
            self.converged = True
            self.message = f"{self.limits.patience} steps changed the best value by less than ftol"
        elif self.steps >= max_iter:
            self.message = f"max_iter={max_iter} steps were made"
        elif self.late():
            self.message = f"max_time={self.limits.max_time:g} seconds are over"
        if self.message and not self.converged and self.unbounded():
            self.message = (
                f"{self.message.partition('; ')[0]}; the function seems to be unbounded below: it "
                f"fell to {min(seen.best.fun, last.fun):.3g}, where its gradient is as large as at "
                "the start; bound it, or look for a sign that is wrong"
            )
        return bool(self.message)

    def _small(self) -> str:
        bounded = self.optimizer.internals.options.bounds is not None
        which = "projected gradient" if bounded else "gradient"
        return f"no component of the {which} exceeds gtol={self.limits.gtol:g}"

    def late(self) -> bool:
        """Whether the time is over."""
        most = self.limits.max_time
        return most is not None and time.monotonic() - self.begun >= most

    def unbounded(self) -> bool:
        """Whether the value fell without an end, along a gradient that does not shrink."""
        seen, last = self.seen, self.seen.last
        if last.fun == -math.inf:
            return True
        fell = UNBOUNDED * max(1.0, abs(seen.start)) < seen.start - seen.best.fun
        return fell and seen.best.fun < 0 and not seen.best.largest < seen.start_largest

    def flat(self) -> bool:
        """Whether the best value hardly fell for a while, and the last one is as low."""
        if not self.limits.ftol or len(self.bests) <= self.limits.patience:
            return False
        now, before, last = (
            self.bests[-1],
            self.bests[-1 - self.limits.patience],
            self.seen.last.fun,
        )
        return max(before, last) - now <= self.limits.ftol * max(abs(now), abs(before))

    def result(self) -> Result:
        """What there is to say now."""
        best = self.seen.best if self.seen.best.finite else self.seen.last
        message = self.message
        if self.doubt and message and not self.converged:
            message = f"{message}; {self.doubt}"
        default = float(self.optimizer.lr) if self.rate is None else self.rate
        return Result(
            x=copy(best.x),
            fun=best.fun,
            grad=copy(best.grad),
            grad_norm=best.largest,
            nit=self.steps,
            nfev=self.seen.calls + self.calls.extra,
            converged=self.converged,
            message=message,
            rule=type(self.optimizer).__name__,
            lr=default,
            history=self.history,
        )
