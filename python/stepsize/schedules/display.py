"""Schedules to look at: a table of values and a small picture for notebooks."""

from __future__ import annotations

import html
import math

import numpy as np

from stepsize.schedules.arguments import fail
from stepsize.schedules.schedule import Schedule


def shown_steps(schedule: Schedule) -> int:
    """How many steps a picture shows: to the end and a little over, or the first thousand."""
    if math.isinf(schedule.length):
        return 1000
    return max(2, math.ceil(schedule.length * 1.02) + 1)


def table(schedule: Schedule, every: float | None = None, steps: int | None = None) -> str:
    """Steps and values in two columns: `every` that many steps, about 20 lines when None."""
    stop = shown_steps(schedule) if steps is None else steps
    stride = max(1, stop // 20) if every is None else every
    if not stride > 0:
        raise fail("table", "every", "above 0", every, "leave it out for about 20 lines")
    at = np.arange(0, stop, stride)
    names = [f"{step:g}" if step % 1 else f"{int(step)}" for step in at.tolist()]
    width = max(4, *map(len, names)) if names else 4
    lines = [f"{'step':>{width}}  value"]
    lines += [f"{n:>{width}}  {v:.6g}" for n, v in zip(names, schedule(at).tolist(), strict=True)]
    return "\n".join(lines)


def svg(schedule: Schedule, width: int = 360, height: int = 120) -> str:
    """The curve as an SVG picture that takes the colour of the text around it."""
    stop = shown_steps(schedule)
    at = np.unique(np.linspace(0, stop - 1, 4 * 90 + 1))
    values = schedule(at)
    top = float(values.max()) or 1.0
    edge, floor = 4, height - 16
    x = edge + at / (stop - 1) * (width - 2 * edge)
    y = floor - values / top * (floor - 14)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    text = 'font-family="system-ui, sans-serif" font-size="10" fill="currentColor"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{html.escape(repr(schedule))}">'
        f'<line x1="{edge}" y1="{floor}" x2="{width - edge}" y2="{floor}" stroke="currentColor" '
        'stroke-opacity="0.3"/>'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.8"/>'
        f'<text x="{edge}" y="10" {text}>{top:.3g}</text>'
        f'<text x="{edge}" y="{height - 4}" {text}>0</text>'
        f'<text x="{width - edge}" y="{height - 4}" text-anchor="end" {text}>{stop - 1}</text>'
        "</svg>"
    )
