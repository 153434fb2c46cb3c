"""Schedules composed of others, under their names in papers and libraries."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from stepsize.schedules import nodes
from stepsize.schedules.algebra import combined
from stepsize.schedules.arguments import (
    Fraction,
    Length,
    Number,
    Positive,
    Rate,
    Step,
    Total,
    fail,
    is_close_to_whole,
)
from stepsize.schedules.basic import constant, cosine, inverse_sqrt, linear
from stepsize.schedules.nodes import Node
from stepsize.schedules.schedule import Schedule, recipe

Divisor = Annotated[float, Number("a finite number >= 1", low=1.0)]


def rest_of(where: str, warmup_steps: float, total_steps: float) -> float:
    """The steps left after a warm-up that is part of the total."""
    if warmup_steps >= total_steps:
        raise fail(
            where, "warmup_steps", f"below total_steps={total_steps}", warmup_steps,
            "total_steps includes the warm-up",
        )  # fmt: skip
    return total_steps - warmup_steps


@recipe
def warmup_linear(
    peak: Rate, warmup_steps: Step, total_steps: Length, init: Rate = 0.0, end: Rate = 0.0
) -> Schedule:
    """Linear warm-up from `init` to `peak`, then linear decay to `end` at step `total_steps`.

    `total_steps` includes the warm-up; `warmup_steps=0` means none.

    >>> s = warmup_linear(1.0, 10, 110)
    >>> s(5), s(10), s(60), s(110)
    (0.5, 1.0, 0.5, 0.0)
    """
    rest = rest_of("warmup_linear", warmup_steps, total_steps)
    return linear(peak, end, rest).warmup(warmup_steps, init)


@recipe
def warmup_cosine(
    peak: Rate,
    warmup_steps: Step,
    total_steps: Length,
    init: Rate = 0.0,
    end: Rate = 0.0,
    power: Positive = 1.0,
) -> Schedule:
    """Linear warm-up from `init` to `peak`, then cosine decay to `end` at step `total_steps`.

    `total_steps` includes the warm-up; `warmup_steps=0` means none.

    >>> s = warmup_cosine(1.0, 10, 110)
    >>> s(5), s(10), s(60), s(110)
    (0.5, 1.0, 0.5, 0.0)
    """
    rest = rest_of("warmup_cosine", warmup_steps, total_steps)
    return cosine(peak, end, rest, power).warmup(warmup_steps, init)


@recipe
def one_cycle(
    peak: Rate,
    total_steps: Total,
    pct_start: Fraction = 0.3,
    div: Divisor = 25.0,
    final_div: Divisor = 1e4,
    shape: Literal["cosine", "linear"] = "cosine",
    three_phase: bool = False,
) -> Schedule:
    """The 1cycle policy: up from `peak / div` to `peak`, then down to `peak / div / final_div`.

    The peak is at step `pct_start * total_steps - 1` and the end at the last step,
    `total_steps - 1`, as in torch.optim. With `three_phase` the way down to `peak / div` takes as
    long as the way up.

    Smith and Topin 2018, arXiv:1708.07120.

    >>> s = one_cycle(1.0, 100)
    >>> s(0), s(29), s(99) == 1 / 25 / 1e4
    (0.04, 1.0, True)
    """
    if three_phase and pct_start > 0.5:
        raise fail("one_cycle", "pct_start", "at most 0.5 with three_phase", pct_start)
    first, last = peak / div, peak / div / final_div
    top = pct_start * total_steps - 1
    top = round(top) if is_close_to_whole(top) else top
    values = [first, peak, first, last] if three_phase else [first, peak, last]
    ends = [top, 2 * top, total_steps - 1] if three_phase else [top, total_steps - 1]
    pieces: list[tuple[float, Node]] = []
    start = 0.0
    for begin, end, stop in zip(values, values[1:], ends, strict=False):
        if stop > start:
            params = (begin, end, stop - start) + ((1.0,) if shape == "cosine" else ())
            pieces.append((start, Node(shape, params)))
        start = stop
    if not pieces:
        pieces = [(0.0, nodes.constant(first))]
    return combined(nodes.join(pieces), total_steps - 1)


@recipe
def wsd(
    peak: Rate,
    warmup_steps: Step,
    stable_steps: Step,
    decay_steps: Length,
    end: Rate = 0.0,
    shape: Literal["linear", "cosine", "sqrt"] = "linear",
) -> Schedule:
    """Warmup-stable-decay: warm-up from 0, a stable part at `peak`, and a decay to `end`.

    `shape` is the shape of the decay; `"sqrt"` is `peak + (end - peak) * sqrt(p)`.

    Hu et al. 2024, arXiv:2404.06395, section 4; Hägele et al. 2024, arXiv:2405.18392, for `"sqrt"`.

    >>> s = wsd(1.0, 10, 80, 10)
    >>> s(5), s(50), s(95), s(100)
    (0.5, 1.0, 0.5, 0.0)
    """
    made = {
        "linear": Node("linear", (peak, end, decay_steps)),
        "cosine": Node("cosine", (peak, end, decay_steps, 1.0)),
        "sqrt": Node("root", (peak, end, decay_steps)),
    }
    stable = constant(peak).then(combined(made[shape], decay_steps), at=stable_steps)
    return stable.warmup(warmup_steps)


@recipe
def rex(peak: Rate, steps: Length, end: Rate = 0.0) -> Schedule:
    """Reflected exponential (REX): decay that is slow at first, then fast.

    `end + (peak - end) * (1 - p) / (1 - p / 2)`

    Chen, Wolfe and Kyrillidis 2021, arXiv:2107.04197.

    >>> s = rex(1.0, 100)
    >>> s(0), round(s(50), 6), s(100)
    (1.0, 0.666667, 0.0)
    """
    return combined(Node("rex", (peak, end, steps)), steps)


@recipe
def flat_cosine(
    peak: Rate, total_steps: Length, flat: Fraction = 0.75, end: Rate = 0.0
) -> Schedule:
    """Constant `peak` for the fraction `flat` of the steps, then cosine decay to `end`.

    >>> s = flat_cosine(1.0, 100)
    >>> s(75), round(s(87.5), 6), s(100)
    (1.0, 0.5, 0.0)
    """
    start = flat * total_steps
    if start >= total_steps:
        raise fail("flat_cosine", "flat", "below 1", flat, "use constant(peak) for no decay")
    return constant(peak).then(cosine(peak, end, total_steps - start), at=start)


@recipe
def noam(dim: Divisor, warmup_steps: Length, scale: Rate = 1.0) -> Schedule:
    """The Transformer's warm-up and inverse square root decay.

    With `t = s + 1`: `scale * dim**-0.5 * min(t**-0.5, t * warmup_steps**-1.5)`.

    Vaswani et al. 2017, arXiv:1706.03762, equation 3.

    >>> s = noam(512, 4000)
    >>> s.values(10_000).argmax()
    np.int64(3999)
    """
    return inverse_sqrt(scale / math.sqrt(dim * warmup_steps), warmup_steps).shift(-1)
