"""Closed-form curves. `s` is the step, `N` a length, `p = min(s, N) / N` the progress."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from stepsize.schedules import nodes
from stepsize.schedules.algebra import combined
from stepsize.schedules.arguments import (
    Finite,
    Length,
    Number,
    Positive,
    Rate,
    Rates,
    Share,
    Step,
    Steps,
    check_for,
    fail,
)
from stepsize.schedules.nodes import Node
from stepsize.schedules.schedule import Schedule, recipe

Multiplier = Annotated[float, Number("1, or between 1.001 and 1000", low=1.0, high=1e3, whole=True)]


def points_check(where: str, name: str, value: Any) -> tuple[tuple[float, float], ...]:
    """Checks pairs of step and value, with ascending steps."""
    try:
        pairs = tuple(tuple(pair) for pair in value)
    except TypeError:
        pairs = ()
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise fail(where, name, "a sequence of (step, value) pairs", value)
    steps = check_for(Steps)(where, f"{name} steps", [step for step, _ in pairs])
    values = check_for(Rates)(where, f"{name} values", [rate for _, rate in pairs])
    return tuple(zip(steps, values, strict=True))


def function_check(where: str, name: str, value: Any) -> Callable[[float], float]:
    """A function. A name of one is refused: it would run code that the text chose."""
    if isinstance(value, str):
        what = value.rpartition(":")[2] or "the function"
        raise ValueError(
            f"{where}: {name}={value!r:.200} names a function, and what a text names is not "
            f"called; give the function itself, {where}({what}), or the one that the name may "
            f"stand for: {where}({value!r:.200}, trust={what})"
        )
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{where}: {name} must be a function of one step, got {value!r:.80}")
    return value  # type: ignore[no-any-return]


@recipe
def constant(value: Rate) -> Schedule:
    """The same value at every step.

    >>> constant(0.1)(1000)
    0.1
    """
    return combined(nodes.constant(value), 0)


@recipe
def linear(init: Rate, end: Rate, steps: Length) -> Schedule:
    """A straight line from `init` to `end` over `steps` steps.

    `init * (1 - p) + end * p`

    >>> linear(1.0, 0.0, 10)(5)
    0.5
    """
    return combined(Node("linear", (init, end, steps)), steps)


@recipe
def polynomial(
    init: Rate, end: Rate, steps: Length, power: Positive = 1.0, cycle: bool = False
) -> Schedule:
    """Polynomial decay from `init` to `end`.

    `end + (init - end) * (1 - p)**power`. With `cycle=True` the end moves on by `steps` each time
    it is reached: the value jumps up, lower each time, and decays again, without end.

    >>> polynomial(1.0, 0.0, 10, power=2)(5)
    0.25
    """
    if cycle:
        return combined(Node("laps", (init, end, steps, power)), math.inf)
    if power == 1:
        return linear(init, end, steps)
    return combined(Node("power", (init, end, steps, power)), steps)


@recipe
def cosine(init: Rate, end: Rate, steps: Length, power: Positive = 1.0) -> Schedule:
    """Cosine decay (half a wave) from `init` to `end`.

    `end + (init - end) * ((1 + cos(pi * p)) / 2)**power`

    Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one cycle.

    >>> s = cosine(1.0, 0.0, 100)
    >>> s(0), s(50), s(100)
    (1.0, 0.5, 0.0)
    """
    return combined(Node("cosine", (init, end, steps, power)), steps)


@recipe
def exponential(
    init: Rate,
    rate: Positive,
    steps: Length = 1,
    staircase: bool = False,
    end: Rate | None = None,
) -> Schedule:
    """Exponential decay: multiply by `rate` every `steps` steps, smoothly or as a `staircase`.

    `init * rate**(s / steps)`, the exponent rounded down with `staircase`. `end` is a floor where
    `rate < 1` and a ceiling where `rate > 1`. Growth without `end` stops at the largest float.

    >>> exponential(1.0, 0.5, steps=10)(20)
    0.25
    """
    low, high = 0.0, nodes.LARGEST
    if end is not None:
        low, high = (end, high) if rate < 1 else (low, end)
        if not low <= init <= high:
            side = "at most" if rate < 1 else "at least"
            raise fail("exponential", "end", f"{side} init={init!r} where rate={rate!r}", end)
    params = (init, *nodes.log2_pair(rate), steps, float(staircase), low, high)
    return combined(Node("exponential", params), math.inf if rate != 1 and init > 0 else 0)


@recipe
def inverse_time(init: Rate, rate: Rate, steps: Length = 1, staircase: bool = False) -> Schedule:
    """Inverse time decay.

    `init / (1 + rate * s / steps)`, the quotient `s / steps` rounded down with `staircase`.

    >>> inverse_time(0.1, 0.5)(2)
    0.05
    """
    params = (init, rate, steps, float(staircase))
    return combined(Node("inverse_time", params), math.inf if rate * init > 0 else 0)


@recipe
def inverse_sqrt(peak: Rate, warmup_steps: Step, timescale: Length | None = None) -> Schedule:
    """Linear warm-up to `peak`, then decay with the inverse square root of the step.

    `peak * s / W` while `s < W = warmup_steps`, then `peak * sqrt(T / (s - W + T))`, where
    `T = timescale`, or `W` when it is None.

    Vaswani et al. 2017, arXiv:1706.03762, section 5.3; it starts at 0, unlike `noam`.

    >>> s = inverse_sqrt(0.1, 100)
    >>> s(100), s(400)
    (0.1, 0.05)
    """
    scale = timescale if timescale is not None else warmup_steps
    if scale == 0:
        raise fail("inverse_sqrt", "warmup_steps", "above 0 where timescale is None", warmup_steps)
    tail = combined(Node("inverse_sqrt", (peak, scale)), math.inf if peak > 0 else 0)
    return tail.warmup(warmup_steps)


@recipe
def step_decay(init: Rate, every: Length, factor: Positive) -> Schedule:
    """Step decay: multiply by `factor` every `every` steps; the new value holds at that step.

    `init * factor**floor(s / every)`

    >>> s = step_decay(1.0, 30, 0.5)
    >>> s(29), s(30), s(60)
    (1.0, 0.5, 0.25)
    """
    return exponential(init, factor, steps=every, staircase=True)


@recipe
def multistep(init: Rate, milestones: Steps, factor: Rate) -> Schedule:
    """Multiply by `factor` at each milestone; the new value holds at the milestone itself.

    >>> s = multistep(1.0, [30, 80], 0.5)
    >>> s(29), s(30), s(80)
    (1.0, 0.5, 0.25)
    """
    values = [init]
    for _ in milestones:
        values.append(values[-1] * factor)
    if not math.isfinite(values[-1]):
        raise fail("multistep", "factor", "such that the rate stays finite", factor)
    return piecewise_constant(milestones, values)


@recipe
def piecewise_constant(boundaries: Steps, values: Rates) -> Schedule:
    """`values[k]` from the k-th boundary on; a new value holds at the boundary itself.

    >>> s = piecewise_constant([10, 20], [0.1, 0.01, 0.001])
    >>> s(9), s(10), s(20)
    (0.1, 0.01, 0.001)
    """
    if len(values) != len(boundaries) + 1:
        allowed = f"one more than the {len(boundaries)} boundaries"
        raise fail("piecewise_constant", "the number of values", allowed, len(values))
    node = Node("levels", data=(*boundaries, *values))
    return combined(node, boundaries[-1] if boundaries else 0)


@recipe
def piecewise_linear(
    points: Annotated[Sequence[tuple[float, float]], points_check],
) -> Schedule:
    """Linear interpolation between `(step, value)` points; constant before and after them.

    >>> s = piecewise_linear([(0, 0.0), (10, 1.0), (30, 0.0)])
    >>> s(5), s(20), s(100)
    (0.5, 0.5, 0.0)
    """
    steps, values = zip(*points, strict=True)
    return combined(Node("points", data=(*steps, *values)), steps[-1])


@recipe
def table(values: Rates) -> Schedule:
    """One value per step; the last one holds. A fraction of a step counts as the step it is in.

    >>> table([0.1, 0.2, 0.3])(1)
    0.2
    """
    last = len(values) - 1
    return combined(Node("levels", data=(*range(1, last + 1), *values)), last)


@recipe
def cosine_restarts(
    init: Rate, period: Length, multiplier: Multiplier = 1, decay: Share = 1.0, end: Rate = 0.0
) -> Schedule:
    """Cosine decay with warm restarts, the first one after `period` steps.

    In cycle `i`, `s_i` steps after it began: `end + (init - end) * decay**i * (1 + cos(pi * s_i /
    N_i)) / 2`, where `N_i = period * multiplier**i`. `decay` shrinks the height above `end`.

    Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5.

    >>> s = cosine_restarts(1.0, 10, multiplier=2, decay=0.5)
    >>> s(0), s(5), s(10), s(20), s(30)
    (1.0, 0.5, 0.5, 0.25, 0.25)
    """
    if 1 < multiplier < 1.001:
        raise fail("cosine_restarts", "multiplier", "1, or between 1.001 and 1000", multiplier)
    starts, length = [0.0], period
    while multiplier > 1 and starts[-1] <= 2.0**53:
        starts.append(starts[-1] + length)
        length *= multiplier
    params = (init, end, period, *nodes.log2_pair(decay))
    return combined(
        Node("restarts", params, data=tuple(starts) if multiplier > 1 else ()), math.inf
    )


@recipe
def cyclic(
    low: Rate,
    high: Rate,
    up: Length,
    down: Length | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: Share = 1.0,
) -> Schedule:
    """Triangular cycles: `up` steps from `low` to `high`, then `down` steps back (None: `up`).

    `low` may be the larger of the two: that is how momentum is cycled against the rate. The height
    is halved in each cycle with `"triangular2"`, and multiplied by `gamma**s` with `"exp_range"`.

    Smith 2017, arXiv:1506.01186, section 3.

    >>> s = cyclic(0.0, 1.0, 10, mode="triangular2")
    >>> s(5), s(10), s(20), s(30)
    (0.5, 1.0, 0.0, 0.5)
    """
    if mode != "exp_range" and gamma != 1:
        raise fail("cyclic", "gamma", f"1 where mode={mode!r}", gamma, "use mode='exp_range'")
    shrink = {"triangular": 1.0, "triangular2": 0.5, "exp_range": gamma}[mode]
    back = up if down is None else down
    params = (low, high, up, back, *nodes.log2_pair(shrink), float(mode == "exp_range"))
    return combined(Node("cyclic", params), math.inf)


@recipe
def tanh(
    init: Rate, end: Rate, steps: Length, lower: Finite = -7.0, upper: Finite = 3.0
) -> Schedule:
    """Decay from near `init` to `end` along the hyperbolic tangent between `lower` and `upper`.

    `end + (init - end) * (1 - tanh(lower * (1 - p) + upper * p)) / 2`

    Hsueh, Li and Wu 2019, arXiv:1806.01593.

    >>> round(tanh(1.0, 0.0, 10)(7), 6)
    0.5
    """
    if not -100 <= lower < upper <= 100:
        raise fail("tanh", "lower", f"below upper={upper!r}, both in [-100, 100]", lower)
    return combined(Node("tanh", (init, end, steps, lower, upper)), steps)


@recipe
def from_function_(f: Annotated[Callable[[float], float], function_check]) -> Schedule:
    return combined(Node("function", function=f), math.inf)


def from_function(f: Callable[[float], float] | str, *, trust: Any = ()) -> Schedule:
    """The values of a Python function; it gets an int where the step is a whole number.

    The result must be finite and not negative. It is called in every step, so it is slower than a
    schedule made of numbers. It is saved by its import path, `"module:name"`. `f` may be such a
    path of a function that is given in `trust`: a function, a schedule that has it, or a collection
    of them. Nothing that a text names is imported or called otherwise.

    >>> from_function(lambda step: 1 / (1 + step))(3)
    0.25
    """
    from stepsize.schedules.expression import functions_in

    given: Any = functions_in(trust).get(f, f) if isinstance(f, str) else f
    return from_function_(given)


from_function.signature = inspect.signature(from_function)  # type: ignore[attr-defined]
