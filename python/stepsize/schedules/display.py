"""Display of schedules: a table of values and a small plot for notebooks."""

from __future__ import annotations

import html
import math

import numpy as np
from numpy.typing import NDArray

from stepsize.curves import sampled, svg_line
from stepsize.schedules.arguments import fail
from stepsize.schedules.schedule import Schedule
from stepsize.validation import number, whole

MOST_LINES = 1_000_000


def shown_steps(schedule: Schedule) -> int:
    """How many steps a plot shows: up to and including the last value, or the first thousand."""
    if math.isinf(schedule.length):
        return 1000
    return max(2, math.ceil(schedule.length) + 1)


def table(schedule: Schedule, every: float | None = None, steps: int | None = None) -> str:
    """Steps and values in two columns, one line for every `every` steps.

    When it is None, about 20 lines at round steps, plus those of the highest and of the last value.
    """
    stop = shown_steps(schedule) if steps is None else whole("table: steps", steps, 0, 2**53)
    if every is None:
        at = _round_steps(schedule, stop)
    else:
        move = "leave it out for about 20 lines"
        stride = number("table: every", every, 0.0, low_open=True, move=move)
        if stop / stride > MOST_LINES:
            least = f"at least {stop / MOST_LINES:g} for {stop} steps"
            raise fail("table", "every", least, every, move)
        at = np.arange(0, stop, stride)
    names = [f"{step:g}" if step % 1 else f"{int(step)}" for step in at.tolist()]
    width = max(4, *map(len, names)) if names else 4
    lines = [f"{'step':>{width}}  value"]
    lines += [f"{n:>{width}}  {v:.6g}" for n, v in zip(names, schedule(at).tolist(), strict=True)]
    return "\n".join(lines)


def _round_steps(schedule: Schedule, stop: int) -> NDArray[np.float64]:
    """About twenty steps, 1, 2 or 5 times a power of ten apart, plus the peak and the last step."""
    least = max((stop - 1) / 20, 1)
    power = 10 ** math.floor(math.log10(least))
    stride = next(power * k for k in (1, 2, 5, 10) if power * k >= least)
    at, values = sampled(schedule, stop, 100_000)
    extra = [float(at[int(values.argmax())]), stop - 1.0] if stop > 0 else []
    return np.unique([*np.arange(0.0, stop, stride), *extra])


def svg(schedule: Schedule, width: int = 360, height: int = 120) -> str:
    """The curve as an SVG image in the colour of the surrounding text."""
    stop = shown_steps(schedule)
    at, values = sampled(schedule, stop, 4 * 90 + 1)
    top = float(values.max()) or 1.0
    edge, floor = 4, height - 16
    line = svg_line(at, values, (edge, 14, width - edge, floor), low=0.0, width=1.8)
    text = 'font-family="system-ui, sans-serif" font-size="10" fill="currentColor"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{html.escape(repr(schedule))}">'
        f'<line x1="{edge}" y1="{floor}" x2="{width - edge}" y2="{floor}" stroke="currentColor" '
        f'stroke-opacity="0.3"/>{line}'
        f'<text x="{edge}" y="10" {text}>{top:.3g}</text>'
        f'<text x="{edge}" y="{height - 4}" {text}>0</text>'
        f'<text x="{width - edge}" y="{height - 4}" text-anchor="end" {text}>{stop - 1}</text>'
        "</svg>"
    )
