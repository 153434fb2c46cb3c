"""Pictures of this package's own results: learning curves and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsize.curves import debiased_ema
from stepsize.plots.style import INK, colour, dress, label_ends, new_axes, width_for

__all__ = ["learning_curves", "schedule"]


def smooth(values: ArrayLike, window: int) -> NDArray[Any]:
    """Exponential moving average over about `window` steps; NaN stays NaN."""
    return debiased_ema(values, 1 - 1 / max(1, window))


def series(history: Mapping[str, Any], key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and values of one series, without the steps at which it was not measured."""
    if key not in history:
        return np.empty(0), np.empty(0)
    values = np.asarray(history[key], float)
    steps = np.asarray(history["step"], float) if "step" in history else np.arange(len(values))
    # NaN means "not measured here"; an infinite loss is one, but has no place in a picture.
    seen = np.isfinite(values)
    return steps[seen], values[seen]


def named(items: Any, kind: str) -> dict[str, Any]:
    """One thing, a list of things or a mapping from names to things, as such a mapping."""
    if isinstance(items, Mapping) and not _is_history(items):
        result = dict(items)
    elif _is_history(items) or not isinstance(items, Iterable):
        result = {"": items}
    else:
        result = {_call(item, f"{kind} {i + 1}"): item for i, item in enumerate(items)}
    if not result:
        raise ValueError(f"nothing to draw: give at least one {kind}")
    return result


def shown(steps: int) -> NDArray[np.int64]:
    """The steps that a picture of so many has: all of them, or ten thousand from end to end."""
    return np.linspace(0, steps - 1, min(steps, 10_000)).round().astype(np.int64)


def rates(schedule: Any, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values of a schedule, or of any function of a step."""
    if hasattr(schedule, "values"):
        return schedule(at)  # type: ignore[no-any-return]
    return np.array([float(schedule(int(step))) for step in at])


def _call(item: Any, default: str) -> str:
    """Schedules are named by the call that made them, which is what their repr is."""
    return default if isinstance(item, Mapping) or "<" in repr(item) else repr(item)


def _is_history(value: Any) -> bool:
    return isinstance(value, Mapping) and "loss" in value


def readable_part(averages: list[Any], others: Iterable[Any] = ()) -> tuple[float, float]:
    """The lowest loss, and the height above which a run has left the picture: it diverged."""
    starts = [float(row[0]) for row in averages if len(row)]
    if not starts:
        raise ValueError("nothing to draw: no history holds a finite loss")
    low = min(float(np.min(row)) for row in (*averages, *others) if len(row))
    return low, 3 * max(starts)


def learning_curves(
    history: Any, ax: Any = None, *, title: str = "", yscale: str | None = None
) -> Any:
    """Draw training and validation loss over the steps; returns matplotlib axes.

    `history` is one History, a list of them, or a mapping from names to them. One run shows every
    step faintly, their running average and the validation loss; several show the running averages.
    A run that left the picture at the top is drawn up to there.
    """
    runs = named(history, "run")
    ax = new_axes(width_for(runs)) if ax is None else ax
    labels, averages, checked = [], [], []
    for index, (name, run) in enumerate(runs.items()):
        steps, losses = series(run, "loss")
        checks, held_out = series(run, "val_loss")
        if not len(losses):
            continue
        average = smooth(losses, len(losses) // 40)
        paint, text = colour(index)
        if len(runs) == 1:
            ax.plot(steps, losses, color=paint, alpha=0.25, linewidth=0.7)
        (line,) = ax.plot(steps, average, color=paint, linewidth=1.8)
        labels.append((line, name or "training", text))
        if len(runs) == 1 and len(held_out):
            paint, text = colour(1)
            (line,) = ax.plot(checks, held_out, color=paint, linewidth=1.8)
            labels.append((line, "validation", text))
        averages.append(average)
        checked.append(held_out)
    low, top = readable_part(averages, checked)
    if yscale is None:
        yscale = "log" if 0 < low < top / 20 else "linear"
    data_top = ax.dataLim.y1
    if yscale == "log":
        ax.set_ylim(low / 1.3, min(top, data_top * 1.3))
    elif data_top > top:
        ax.set_ylim(min(0.0, low), top)
    ax.margins(x=0.02)
    dress(ax, title=title, xlabel="step", ylabel="loss", yscale=yscale)
    label_ends(ax, labels)
    return ax


def schedule(
    schedule: Any,
    ax: Any = None,
    *,
    steps: int = 1000,
    title: str = "",
    yscale: str = "linear",
) -> Any:
    """Draw one schedule, a list of them, or a mapping from names to them; returns the axes.

    `steps` updates are drawn, so step 0 up to `steps - 1`. Lists are labelled by their calls.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    plans = named(schedule, "schedule")
    ax = new_axes(width_for(plans)) if ax is None else ax
    at = shown(steps)
    labels = []
    for index, (name, one) in enumerate(plans.items()):
        paint, text = colour(index)
        (line,) = ax.plot(at, rates(one, at), color=paint, linewidth=1.8)
        labels.append((line, name, text))
    ax.margins(x=0.02)
    if yscale == "linear":
        ax.set_ylim(bottom=min(0.0, ax.dataLim.y0))
    dress(ax, title=title, xlabel="step", ylabel="learning rate", yscale=yscale)
    ax.spines["bottom"].set_color(INK)
    label_ends(ax, [entry for entry in labels if entry[1]])
    return ax
