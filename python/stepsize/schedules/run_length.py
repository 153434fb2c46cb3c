"""The length of a run: epochs as steps, and whether a schedule fits the run."""

from __future__ import annotations

import math
import warnings

from stepsize.schedules.arguments import Rate, check_for
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
