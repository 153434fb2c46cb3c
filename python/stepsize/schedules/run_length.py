"""The length of a run: epochs as steps, and whether a schedule fits the run."""

from __future__ import annotations

import math
import warnings

import numpy as np

from stepsize.schedules.arguments import Rate, check_for
from stepsize.schedules.schedule import Schedule, as_schedule
from stepsize.validation import whole

IDLE = 1e-9  # of the peak: updates at lower rates vanish in float32
IDLE_SHARE = 0.02  # of the run: a few steps near 0 at the end of a decay are normal


class ScheduleWarning(UserWarning):
    """A schedule does not fit the run it is used in."""


def epochs(n: float, steps_per_epoch: int) -> int:
    """The number of steps in `n` epochs, rounded to a whole number; `n` may be a fraction.

    >>> from stepsize.schedules import epochs, warmup_cosine
    >>> warmup_cosine(0.1, epochs(0.5, 200), epochs(90, 200))
    warmup_cosine(0.1, 100, 18000)
    """
    steps = whole("epochs: steps_per_epoch", steps_per_epoch, 0, 2**53)
    amount: float = check_for(Rate)("epochs", "n", n)
    return round(amount * steps)


def check_run(schedule: Schedule, steps: int, *, steps_per_epoch: int | None = None) -> None:
    """Give a ScheduleWarning if a schedule does not fit a run of `steps` steps.

    It warns if the run ends while the rate is still rising to its peak, if it ends before the rate
    has decayed, and if the rate is 0, or less than a billionth of its peak, in the last steps,
    which then change nothing. With `steps_per_epoch` it also warns if the schedule seems to count
    epochs. Python shows a warning once for each place it comes from.

    >>> import warnings
    >>> from stepsize.schedules import check_run, cosine, warmup_cosine
    >>> def said(*arguments, **keywords):
    ...     with warnings.catch_warnings(record=True) as caught:
    ...         warnings.simplefilter("always")
    ...         check_run(*arguments, **keywords)
    ...     print(*[warning.message for warning in caught])
    >>> said(warmup_cosine(0.1, 100, 1000), steps=500)
    the run ends at step 500, before the schedule does at 1000: the last rate is 0.0589 instead of 0
    >>> said(cosine(0.1, 0, 100), steps=1000)
    the rate is 0 from step 100 on: the last 900 of the run's 1000 steps change nothing
    """
    steps = whole("check_run: steps", steps, 0, 2**53)
    if steps_per_epoch is not None:
        steps_per_epoch = whole("check_run: steps_per_epoch", steps_per_epoch)
    schedule = as_schedule("check_run", schedule)
    if steps < 1 or schedule.compiled is None:  # a Python function is only called by the run
        return
    text = _too_long(schedule, steps) or _too_short(schedule, steps)
    unit = _epochs_hint(schedule, steps, steps_per_epoch)
    if text or unit:
        warnings.warn("; ".join(filter(None, (text, unit))), ScheduleWarning, stacklevel=2)


def _too_long(schedule: Schedule, steps: int) -> str:
    """The warning for a run that ends before its schedule, or an empty string."""
    length = schedule.length
    if math.isinf(length) or length <= steps:
        return ""
    sample = [schedule(length * i / 256) for i in range(257)]
    peak_at = length * sample.index(max(sample)) / 256
    now, final = schedule(steps - 1), schedule(length)
    if peak_at >= steps and max(sample) > now:
        return (
            f"the warm-up is longer than the run of {steps} steps: the peak of {max(sample):.3g} "
            f"comes at step {math.ceil(peak_at)}"
        )
    if now > final:
        return (
            f"the run ends at step {steps}, before the schedule does at {length:g}: "
            f"the last rate is {now:.3g} instead of {final:.3g}"
        )
    return ""


def _too_short(schedule: Schedule, steps: int) -> str:
    """The warning for a run whose last steps change nothing, or an empty string."""
    sample = np.unique(np.linspace(0, steps - 1, min(steps, 1024)).astype(np.int64))
    values = schedule(sample)
    least = IDLE * float(values.max())
    moving = np.flatnonzero(values > least)
    if not moving.size:
        return f"the rate is 0 in all of the run's {steps} steps: they change nothing"
    last = int(moving[-1])
    if last == len(sample) - 1:
        return ""
    low, high = int(sample[last]), int(sample[last + 1])
    while high - low > 1:  # bisection for `high`, the first step that changes nothing
        middle = (low + high) // 2
        low, high = (middle, high) if schedule(middle) > least else (low, middle)
    if steps - high <= max(1, IDLE_SHARE * steps):
        return ""
    rate = "0" if values[-1] == 0 else f"less than a billionth of its peak, {values.max():.3g},"
    return (
        f"the rate is {rate} from step {high} on: "
        f"the last {steps - high} of the run's {steps} steps change nothing"
    )


def _epochs_hint(schedule: Schedule, steps: int, steps_per_epoch: int | None) -> str:
    """The warning for a decaying schedule as long as the run has epochs, or an empty string."""
    length = schedule.length
    if steps_per_epoch is None or steps_per_epoch < 2 or math.isinf(length) or length < 2:
        return ""
    decays = schedule(length) < schedule(np.linspace(0, length, 257)).max()
    if not decays or math.ceil(length) not in (
        steps // steps_per_epoch,
        -(-steps // steps_per_epoch),
    ):
        return ""
    return (
        f"its length of {length:g} is the run's number of epochs, but a schedule counts steps: "
        f"use schedule.by_epoch({steps_per_epoch})"
    )
