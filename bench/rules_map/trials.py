"""A rule on a problem: the rate that ten trials find, and what comes of it on three other seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from problem import STEPS, Problem, Task

import stepsize as ss

TRIALS = 10
TUNED_ON, SCORED_ON = 0, (1, 2, 3)
# Rules whose documentation asks for a rate that does not decay: those that average instead, or set
# the rate themselves.
CONSTANT = {
    "ScheduleFreeSGD", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ASGD", "LBFGS", "Rprop", "DoG",
    "DoWG", "LDoG", "COCOB", "PolyakSGD", "MoMo", "MoMoAdam", "FTRL",
    "ScheduleFreePlus",
}  # fmt: skip


class Refused(Exception):
    """The rule says that it does not take such parameters."""


def made(cls: type, task: Task, lr: float) -> Any:
    rate: Any = lr
    if cls.__name__ not in CONSTANT and not task.on_the_way:
        rate = ss.schedules.flat_cosine(lr, STEPS, flat=0.5)
    more: dict[str, Any] = {} if task.bounds is None else {"bounds": task.bounds}
    if cls is ss.LBFGS:
        more["line_search_fn"] = "strong_wolfe"  # as torch's and SciPy's users run it
    try:
        return cls(task.params, lr=rate, **more)
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from error


def run(cls: type, problem: Problem, lr: float, seed: int) -> float:
    """The share of the initial error that is left; infinite where it breaks."""
    task = problem.task(seed)
    first = task.error(task.params)
    optimizer = made(cls, task, lr)
    spent, on_the_way = 0, []
    with np.errstate(all="ignore"):
        try:
            while spent < STEPS:
                if cls.needs_closure:
                    asked = steps_of_a_closure(optimizer, task, STEPS - spent)
                    spent += asked
                    if asked == 1 and not task.on_the_way:
                        break  # it has found no way down
                else:
                    loss, grads = task.gradient(task.params)
                    optimizer.step(grads, loss=loss) if cls.needs_loss else optimizer.step(grads)
                    spent += 1
                if task.on_the_way and spent > STEPS // 2:
                    on_the_way.append(task.error(answer(optimizer)))
            last = task.error(answer(optimizer))
        except (ss.NonFiniteGradientError, FloatingPointError):
            return math.inf
        except ValueError as error:
            if spent == 0:
                raise Refused(str(error)) from error
            return math.inf
    found = (float(np.mean(on_the_way)) if on_the_way else last) / first
    return found if math.isfinite(found) else math.inf


def answer(optimizer: Any) -> Any:
    """The parameters, or what a rule that averages gives in their place."""
    return optimizer.eval_params() if hasattr(optimizer, "eval_params") else optimizer.params


def steps_of_a_closure(optimizer: Any, task: Task, left: int) -> int:
    """One step; each gradient that it asks for counts. The noise is that of one draw a step."""
    spent = 0

    def counted(params: Any) -> Any:
        nonlocal spent
        spent += 1
        return task.gradient(params)

    optimizer.max_iter = max(1, min(optimizer.max_iter, left))
    optimizer.step(counted)
    return max(spent, 1)


def tuned(cls: type, problem: Problem, default: float) -> float:
    """The best of ten rates on one seed: by tens from the default while it helps, then between."""
    found: dict[float, float] = {}

    def tried(place: float) -> float:
        if place not in found and len(found) < TRIALS:
            found[place] = run(cls, problem, default * 10**place, TUNED_ON)
        return found.get(place, math.inf)

    way = 1.0 if tried(1.0) < tried(-1.0) else -1.0
    tried(0.0)
    for far in (2.0, 3.0, 4.0):  # four trials are left for what lies between
        best = min(found, key=lambda place: (found[place], abs(place)))
        if best == way * (far - 1) and len(found) < TRIALS - 4:
            tried(way * far)
    return refined(found, tried, default)


def refined(found: dict[float, float], tried: Any, default: float) -> float:
    for width in (0.5, 0.25, 0.125):
        best = min(found, key=lambda place: (found[place], abs(place)))
        for place in (best + width, best - width):
            tried(place)
    best = min(found, key=lambda place: (found[place], abs(place)))
    return default * 10**best
