"""The same pictures as text, for a terminal: dots of Braille, numbers at the edges.

They need no extra, hold no colour codes, and so read the same in a log file.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsize.plots.style import number
from stepsize.plots.views import (
    metrics_of,
    named,
    readable_part,
    sampled_rates,
    series,
    smoothed,
)

__all__ = ["sparkline", "text_curves", "text_learning_curves", "text_range_test", "text_schedule"]

_BLOCKS = "▁▂▃▄▅▆▇█"
# Unicode's Braille patterns: the bit of each dot in a cell of four rows and two columns.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_BLANK = 0x2800


def sparkline(values: ArrayLike, width: int = 60) -> str:
    """Values as one row of block characters, the lowest to the highest; a gap is a space.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7])
    '▁▂▃▄▅▆▇█'
    >>> sparkline([1, float("nan"), 1])
    '▁ ▁'
    """
    row = np.asarray(values, float)
    if len(row) > width:
        row = row[np.linspace(0, len(row) - 1, width).round().astype(int)]
    finite = row[np.isfinite(row)]
    if not len(finite):
        return " " * len(row)
    low, height = float(finite.min()), float(np.ptp(finite)) or 1.0
    return "".join(
        _BLOCKS[min(7, int(8 * (v - low) / height))] if np.isfinite(v) else " " for v in row
    )


def text_curves(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str = "",
    xlabel: str = "",
    xscale: str = "linear",
    yscale: str = "linear",
    width: int = 78,
    height: int = 12,
) -> str:
    """Named lines, each a pair of x and y, drawn in `width` columns and `height` rows of text.

    A name stands beside its line's last point. What is not finite, or not positive on a logarithmic
    scale, is left out.

    >>> print(text_curves({"": ([0, 1, 2], [0.0, 1.0, 2.0])}, width=14, height=3))
    2 │       ⣀⡠⠒⠊
    1 │   ⢀⣀⠖⠊
    0 │⣀⠔⠒⠁
      └───────────
       0         2
    """
    data = {name: _scaled(x, y, xscale, yscale) for name, (x, y) in lines.items()}
    data = {name: xy for name, xy in data.items() if len(xy)}
    if not data:
        return title
    points = np.concatenate(list(data.values()))
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    edges = [
        tuple(number(float(10**v if scale == "log" else v)) for v in (top, (top + base) / 2, base))
        for top, base, scale in zip(high, low, (xscale, yscale), strict=True)
    ]
    left = max(len(text) for text in edges[1])
    right = max(len(name) for name in data)
    columns = max(8, width - left - 2 - (right + 1 if right else 0))
    cells = np.full((height, columns), _BLANK)
    ends: dict[int, str] = {}
    for name, xy in data.items():
        dots = (xy - low) / span * [2 * columns - 1, 4 * height - 1]
        _draw(cells, dots)
        _place(ends, height - 1 - int(dots[-1, 1] // 4), name, height)
    heights = {0: edges[1][0], (height - 1) // 2: edges[1][1], height - 1: edges[1][2]}
    rows = [title] if title else []
    for row, line in enumerate(cells):
        drawn = "".join(map(chr, line)).replace(chr(_BLANK), " ")
        rows.append(f"{heights.get(row, ''):>{left}} │{drawn} {ends.get(row, '')}".rstrip())
    rows.append(f"{'':>{left}} └{'─' * columns}")
    first, last = edges[0][2], edges[0][0]
    rows.append(f"{'':>{left}}  {first}{xlabel:^{columns - len(first) - len(last)}}{last}")
    return "\n".join(rows)


def _scaled(x: ArrayLike, y: ArrayLike, xscale: str, yscale: str) -> NDArray[Any]:
    xy = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    for column, scale in enumerate((xscale, yscale)):
        if scale == "log":
            xy = xy[xy[:, column] > 0]
            xy[:, column] = np.log10(xy[:, column])
    kept: NDArray[Any] = xy[np.isfinite(xy).all(axis=1)]
    return kept


def _draw(cells: NDArray[Any], dots: NDArray[Any]) -> None:
    """Set the Braille dots under straight lines from point to point; the y axis points up."""
    for start, end in itertools.pairwise(dots):
        count = int(np.abs(end - start).max()) + 2
        x, y = np.linspace(start, end, count).T.round().astype(int)
        y = 4 * len(cells) - 1 - y
        np.bitwise_or.at(cells, (y // 4, x // 2), _DOTS[y % 4, x % 2])


def _place(ends: dict[int, str], row: int, name: str, height: int) -> None:
    """Put a name into the free row nearest to where its line ends."""
    free = [r for r in range(height) if r not in ends]
    if name and free:
        ends[min(free, key=lambda r: abs(r - row))] = name


def text_learning_curves(history: Any, *, width: int = 78, height: int = 12) -> str:
    """Loss over the steps of one or several runs, as text.

    One run also shows its validation loss, and below each other validation metric as a sparkline
    between its first and its last value.
    """
    runs = named(history, "run")
    drawn = {name: series(run, "loss") for name, run in runs.items()}
    losses = [loss for _, loss in drawn.values()]
    # Of several runs the validation would double the lines.
    check = series(next(iter(runs.values())), "val_loss") if len(runs) == 1 else None
    _, high, deep = readable_part(losses, [] if check is None else [check[1]])
    lines = {
        name or "training": (steps, average)
        for (name, (steps, _)), average in zip(drawn.items(), smoothed(losses, deep), strict=True)
    }
    if check is not None:
        lines["validation"] = check
    cut = {name: (x[y <= high], y[y <= high]) for name, (x, y) in lines.items()}
    scale = "log" if deep else "linear"
    text = text_curves(cut, title="loss", xlabel="step", yscale=scale, width=width, height=height)
    metrics = metrics_of(next(iter(runs.values()))) if check is not None else {}
    return "\n".join([text, *_told(metrics, width)])


def _told(metrics: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], width: int) -> list[str]:
    """A line for each metric: its name, its first value, its course and its last value."""
    ends = {n: (number(float(v[0])), number(float(v[-1]))) for n, (_, v) in metrics.items()}
    left = max((len(name) + len(first) for name, (first, _) in ends.items()), default=0) + 1
    right = max((len(last) for _, last in ends.values()), default=0)
    room = max(8, width - left - right - 2)
    return [
        f"{name} {ends[name][0]:>{left - len(name) - 1}} {sparkline(values, room)} {ends[name][1]}"
        for name, (_, values) in metrics.items()
    ]


def text_range_test(result: Any, *, width: int = 78, height: int = 12) -> str:
    """Loss over the learning rate of a range test and the rate it suggests, as text."""
    lrs, smoothed = np.asarray(result.lrs, float), np.asarray(result.smoothed, float)
    finite = smoothed[np.isfinite(smoothed)]
    if not len(finite):
        return "no loss is finite: nothing to draw\nno learning rate to suggest"
    start, low = finite[0], finite.min()
    top = start + 0.5 * (start - low) if start > low else np.inf
    keep = smoothed <= top
    text = text_curves(
        {"": (lrs[keep], smoothed[keep])},
        title="loss",
        xlabel="learning rate",
        xscale="log" if lrs[0] > 0 and lrs[-1] / lrs[0] > 50 else "linear",
        width=width,
        height=height,
    )
    if not np.isfinite(result.suggestion):
        return f"{text}\nno learning rate to suggest"
    return f"{text}\nsuggested learning rate: {number(result.suggestion)}"


def text_schedule(schedule: Any, *, steps: int = 1000, width: int = 78, height: int = 12) -> str:
    """The learning rate over the first `steps` updates of one or several schedules, as text."""
    lines = {name: sampled_rates(one, steps) for name, one in named(schedule, "schedule").items()}
    return text_curves(lines, title="learning rate", xlabel="step", width=width, height=height)
