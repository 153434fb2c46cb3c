"""The rate, or its schedule, with which `minimize` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepsize.arrays import Nest, copy
from stepsize.diagnosis.mismatch import CALL
from stepsize.finder.evaluations import Evaluations
from stepsize.finder.find import lr_find
from stepsize.finder.rehearsed import Plan, rehearsed
from stepsize.minimization.calls import Limits
from stepsize.optimizers import Optimizer
from stepsize.schedules import Schedule, constant, flat_cosine

LONG = 400  # steps from which on rehearsals pay
CHECK = "ss.check_gradients(lambda x, batch: fun_and_grad(x), x0)"


def rate_of(
    cls: type[Optimizer],
    x: Nest,
    lr: Any,
    seen: Evaluations,
    limits: Limits,
    make: Callable[..., Any],
    known: bool,
) -> tuple[Any, str]:
    """The rate that was given, or the schedule of the one found; `known` needs no search.

    The second answer is what the search saw speak against the gradient.
    """
    if not isinstance(lr, str):
        return lr, ""
    if lr != "auto":
        raise ValueError(
            f"minimize: lr must be a number, a schedule, None or 'auto', got {lr!r:.80}"
        )
    if cls.adapts_lr or known:
        return None, ""

    plans = (_constant,) if cls.steady_lr else (_constant, _schedule)
    found = lr_find(seen.called, x, [None], optimizer=make, progress=False)
    doubt = found.mismatch.replace(CALL, CHECK)
    if limits.max_iter >= LONG and limits.max_time is None and (found.usable or not doubt):
        start = found.probes[0][0] if found.usable else float(make(copy(x)).lr)
        plan, rate = _rehearsed(seen, x, make, plans, start, limits)
    elif not found.usable:
        return None, doubt
    else:
        plan, rate = plans[-1], found.suggestion
    return (rate if plan is _constant else plan(rate, limits.max_iter)), doubt


def _rehearsed(
    seen: Evaluations,
    x: Nest,
    make: Callable[..., Any],
    plans: Sequence[Plan],
    start: float,
    limits: Limits,
) -> tuple[Plan, float]:
    """The plan and the rate of the run; a rehearsal that converged is made again, as the run."""
    before = seen.best
    if before.largest <= limits.gtol:
        return plans[-1], start

    def done() -> bool:
        return seen.best.largest <= limits.gtol

    with seen.remembering():
        found = rehearsed(seen.called, x, make, plans, start, limits.max_iter, done)
    if done():
        seen.set_aside(before)
    return found


def _schedule(rate: float, steps: int) -> Schedule:
    return flat_cosine(rate, steps, flat=0.5)


def _constant(rate: float, steps: int) -> Schedule:
    return constant(rate)
