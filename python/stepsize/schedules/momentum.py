"""Inverse momentum cycles: the momentum is high where the rate is low, and vice versa."""

from __future__ import annotations

from typing import Literal

from stepsize.schedules.arguments import Fraction, check_for, is_close_to_whole
from stepsize.schedules.basic import constant, cosine, cyclic, linear
from stepsize.schedules.composed import one_cycle
from stepsize.schedules.schedule import Schedule


def one_cycle_momentum(
    peak: float,
    total_steps: int,
    pct_start: float = 0.3,
    *,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    div: float = 25.0,
    final_div: float = 1e4,
    shape: Literal["cosine", "linear"] = "cosine",
    three_phase: bool = False,
) -> tuple[Schedule, Schedule]:
    """`one_cycle` for the rate, and a momentum cycled inversely.

    The momentum falls from `max_momentum` to `base_momentum` while the rate rises to its peak, and
    rises again as the rate falls, as torch.optim.lr_scheduler.OneCycleLR does.

    Smith and Topin 2018, arXiv:1708.07120.

    >>> from stepsize.schedules import one_cycle_momentum
    >>> lr, momentum = one_cycle_momentum(0.1, 100)
    >>> lr(29), momentum(0), momentum(29), momentum(99)
    (0.1, 0.95, 0.85, 0.95)
    """
    where = "one_cycle_momentum"
    low = check_for(Fraction)(where, "base_momentum", base_momentum)
    high = check_for(Fraction)(where, "max_momentum", max_momentum)
    rate = one_cycle(peak, total_steps, pct_start, div, final_div, shape, three_phase)
    top = pct_start * total_steps - 1
    top = round(top) if is_close_to_whole(top) else top
    end = 2 * top if three_phase else total_steps - 1
    curve = cosine if shape == "cosine" else linear
    if end <= top:
        return rate, curve(high, low, top) if top > 0 else constant(high)
    rise = curve(low, high, end - top)
    if top <= 0:
        return rate, rise.shift(top) if top < 0 else rise
    return rate, curve(high, low, top).then(rise, at=top)


def cyclic_momentum(
    low: float,
    high: float,
    up: float,
    down: float | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    *,
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
) -> tuple[Schedule, Schedule]:
    """`cyclic` for the rate, and a momentum cycled inversely.

    The momentum is `max_momentum` where the rate is `low`, as in torch.optim.lr_scheduler.CyclicLR.

    >>> from stepsize.schedules import cyclic_momentum
    >>> lr, momentum = cyclic_momentum(0.01, 0.1, 10)
    >>> lr(10), momentum(0), momentum(10)
    (0.1, 0.9, 0.8)
    """
    where = "cyclic_momentum"
    least = check_for(Fraction)(where, "base_momentum", base_momentum)
    most = check_for(Fraction)(where, "max_momentum", max_momentum)
    rate = cyclic(low, high, up, down, mode, gamma)
    return rate, cyclic(most, least, up, down, mode, gamma)
