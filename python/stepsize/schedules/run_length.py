"""Around schedules: epochs, momentum against the rate, rates by layer, does it fit the run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from stepsize.arrays import Nest
from stepsize.schedules.arguments import Fraction, Rate, Share, check_for, fail, is_close_to_whole
from stepsize.schedules.basic import constant, cosine, cyclic, linear
from stepsize.schedules.composed import one_cycle
from stepsize.schedules.schedule import Schedule, as_schedule
from stepsize.validation import whole


class ScheduleWarning(UserWarning):
    """A schedule does not fit the run it is used in."""


def epochs(n: float, steps_per_epoch: int) -> int:
    """How many steps `n` epochs are, rounded to whole steps; `n` may be a fraction.

    >>> from stepsize.schedules import epochs, warmup_cosine
    >>> warmup_cosine(0.1, epochs(0.5, 200), epochs(90, 200))
    warmup_cosine(0.1, 100, 18000)
    """
    steps = whole("epochs: steps_per_epoch", steps_per_epoch, 0)
    amount: float = check_for(Rate)("epochs", "n", n)
    return round(amount * steps)


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
    """`one_cycle` for the rate, and the momentum that moves against it.

    The momentum falls from `max_momentum` to `base_momentum` while the rate rises to its peak, and
    comes back as the rate falls, as torch.optim.lr_scheduler.OneCycleLR does.

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
    """`cyclic` for the rate, and the momentum that moves against it.

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


def layerwise_lr(params: Nest, decay: float) -> dict[str, float]:
    """A factor for the rate of each layer: 1 for the last, `decay` times less for each before it.

    The layers are the items of `params` in their own order; an item that is a list or tuple of
    nests counts as one layer for each of its items. The keys are patterns for `ss.group`.

    Howard and Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning, where
    `decay = 1 / 2.6`).

    Args:
        params: The nest the optimizer gets.
        decay: In (0, 1].

    >>> import numpy as np, stepsize as ss
    >>> layer = {"w": np.zeros((2, 2)), "b": np.zeros(2)}
    >>> params = {"embed": np.zeros((9, 2)), "layers": [layer, layer], "head": np.zeros((2, 3))}
    >>> factors = ss.layerwise_lr(params, 0.5)
    >>> factors
    {'embed': 0.125, 'layers/0/*': 0.25, 'layers/1/*': 0.5, 'head': 1.0}
    >>> lr = ss.schedules.cosine(0.1, 0.0, 1000)
    >>> groups = [ss.group(pattern, lr=lr * factor) for pattern, factor in factors.items()]
    """
    factor: float = check_for(Share)("layerwise_lr", "decay", decay)
    patterns = [pattern for key, item in items_of(params) for pattern in layers_of(key, item)]
    if not patterns:
        raise fail("layerwise_lr", "params", "a dict, list or tuple of layers", type(params))
    last = len(patterns) - 1
    return {pattern: factor ** (last - i) for i, pattern in enumerate(patterns)}


def items_of(nest: Nest) -> list[tuple[str, Any]]:
    """The named items of a nest, in its own order."""
    if isinstance(nest, Mapping):
        return [(str(key), item) for key, item in nest.items()]
    if isinstance(nest, list | tuple):
        return [(str(i), item) for i, item in enumerate(nest)]
    return []


def layers_of(key: str, item: Any) -> list[str]:
    """The patterns of the layers in one item of the parameters."""
    if isinstance(item, list | tuple) and any(map(items_of, item)):
        return [p for i, inner in enumerate(item) for p in layers_of(f"{key}/{i}", inner)]
    return [f"{key}/*"] if items_of(item) else [key]


def check_run(schedule: Schedule, steps: int) -> None:
    """Warn, with a ScheduleWarning, where a schedule does not fit a run of `steps` steps.

    It warns when the run ends while the rate is still rising to its peak, and when it ends before
    the rate has come down. Python shows a warning once for each place it comes from.

    >>> import warnings
    >>> from stepsize.schedules import check_run, warmup_cosine
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     check_run(warmup_cosine(0.1, 100, 1000), steps=500)
    >>> print(caught[0].message)
    the run ends at step 500, before the schedule does at 1000: the last rate is 0.0589 instead of 0
    """
    steps = whole("check_run: steps", steps, 0)
    schedule = as_schedule("check_run", schedule)
    length = schedule.length
    if steps < 1 or math.isinf(length) or length <= steps:
        return
    sample = [schedule(length * i / 256) for i in range(257)]
    peak_at = length * sample.index(max(sample)) / 256
    now, final = schedule(steps - 1), schedule(length)
    if peak_at >= steps and max(sample) > now:
        text = (
            f"the warm-up is longer than the run of {steps} steps: the peak of {max(sample):.3g} "
        )
        text += f"comes at step {math.ceil(peak_at)}"
    elif now > final:
        text = f"the run ends at step {steps}, before the schedule does at {length:g}: "
        text += f"the last rate is {now:.3g} instead of {final:.3g}"
    else:
        return
    warnings.warn(text, ScheduleWarning, stacklevel=2)
