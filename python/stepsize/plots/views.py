"""Pictures of this package's own results: learning curves and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.curves import mad_noise, moving_average, sampled
from stepsize.plots.style import INK, colour, dress, given_axes, label_ends, own_axes, width_for

__all__ = ["learning_curves", "schedule"]


WINDOWS = 40  # a line is smoothed over this part of the longest run
NOISE = 0.005  # of the height of a curve: less noise than this is drawn as it is
LOG_RATIO = 20  # height over depth of a picture that asks for a logarithmic axis
FAINT = 0.25
RARE = 0.8  # of the losses are finite where those that are not are holes in the line


def smoothed(curves: Sequence[NDArray[Any]], log: bool) -> list[NDArray[Any]]:
    """Each curve without its noise: all over windows of one length, or as it is if it has none.

    On a logarithmic axis the logarithms are averaged. The averages are centred, so that a curve
    is not drawn later than it is.
    """
    window = max((len(curve) for curve in curves), default=0) // WINDOWS
    return [_without_noise(curve, window, log) for curve in curves]


def _without_noise(curve: NDArray[Any], window: int, log: bool) -> NDArray[Any]:
    if window < 2 or len(curve) < 3 or (log and not (curve > 0).all()):
        return curve
    # What lies far above the start is outside of the picture and must not eat the digits of others.
    y = np.log(curve) if log else np.clip(curve, None, 1e6 * abs(float(curve[0])) + 1e6)
    average = moving_average(y, window)
    if mad_noise(y, order=2) <= NOISE * float(np.ptp(average)):
        return curve
    return np.exp(average) if log else average


def series(history: Mapping[str, Any], key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and values of one series, without the steps at which it was not measured."""
    if key not in history:
        return np.empty(0), np.empty(0)
    values = np.asarray(history[key], float)
    steps = np.asarray(history["step"], float) if "step" in history else np.arange(len(values))
    # NaN means "not measured here"; an infinite loss is one, but has no place in a picture.
    seen = np.isfinite(values)
    return steps[seen], values[seen]


def _holes(history: Mapping[str, Any]) -> NDArray[Any]:
    """Where the finite losses are cut by some that are not; nowhere if many were not measured."""
    seen = np.flatnonzero(np.isfinite(np.asarray(history["loss"], float)))
    if len(seen) < RARE * len(history["loss"]):
        return np.empty(0, np.intp)
    return np.flatnonzero(np.diff(seen) > 1) + 1


def _broken(
    x: NDArray[Any], y: NDArray[Any], holes: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A line with a gap before each of these places."""
    return (x, y) if not len(holes) else (np.insert(x, holes, np.nan), np.insert(y, holes, np.nan))


def metrics_of(history: Mapping[str, Any]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Steps and values of the validation metrics other than the loss, by name without ``val_``."""
    names = [str(k) for k in history if str(k).startswith("val_") and k != "val_loss"]
    found = {name.removeprefix("val_"): series(history, name) for name in names}
    return {name.replace("_", " "): drawn for name, drawn in found.items() if len(drawn[1])}


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


def sampled_rates(schedule: Any, steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and values of a schedule, or of any function of a step, in some ten thousand points."""

    def values(at: NDArray[Any]) -> NDArray[Any]:
        if hasattr(schedule, "values"):
            return np.asarray(schedule(at.astype(np.int64)), float)
        return np.array([float(schedule(int(step))) for step in at])

    return sampled(values, steps, 10_000)


def _call(item: Any, default: str) -> str:
    """Schedules are named by the call that made them, which is what their repr is."""
    return default if isinstance(item, Mapping) or "<" in repr(item) else repr(item)


def _is_history(value: Any) -> bool:
    return isinstance(value, Mapping) and "loss" in value


def readable_part(
    curves: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]] = ()
) -> tuple[float, float, bool]:
    """The lowest loss, the height above which a run has left the picture, and whether it is deep.

    A deep picture wants a logarithmic axis.
    """
    starts = [float(row[0]) for row in curves if len(row)]
    if not starts:
        raise ValueError("nothing to draw: no history holds a finite loss")
    low = min(float(np.quantile(row, 0.02)) for row in (*curves, *others) if len(row))
    top = 3 * max(starts)
    return low, top, 0 < low < top / (3 * LOG_RATIO) or 0 < low < max(starts) / LOG_RATIO


def learning_curves(
    history: Any, ax: Any = None, *, title: str = "", yscale: str | None = None
) -> Any:
    """Draw training and validation loss over the steps; returns matplotlib axes.

    `history` is one History, a list of them, or a mapping from names to them. Every loss is drawn
    faintly where there is noise, and strongly its moving average over a fortieth of the longest
    run, of the logarithms on a logarithmic axis; one run also shows its validation loss. A run
    that left the picture at the top is drawn up to there.
    """
    runs = named(history, "run")
    drawn = {name: (series(run, "loss"), series(run, "val_loss")) for name, run in runs.items()}
    drawn = {name: both for name, both in drawn.items() if len(both[0][0])}
    losses = [loss for (_, loss), _ in drawn.values()]
    low, top, deep = readable_part(losses, [val for _, (_, val) in drawn.values()])
    ax = own_axes(width_for(runs)) if ax is None else given_axes(ax)
    yscale = yscale or ("log" if deep else "linear")
    labels = []
    averages = smoothed(losses, yscale == "log")
    for index, (name, average) in enumerate(zip(drawn, averages, strict=True)):
        (steps, loss), (checks, held_out) = drawn[name]
        paint, text = colour(index)
        holes = _holes(runs[name])
        if average is not loss:
            ax.plot(*_broken(steps, loss, holes), color=paint, alpha=FAINT, linewidth=0.7)
        mark = "o" if len(loss) < 2 else ""  # one step makes no line
        (line,) = ax.plot(
            *_broken(steps, average, holes), color=paint, linewidth=1.8, marker=mark, ms=4
        )
        labels.append((line, name or "training", text))
        if len(runs) == 1 and len(held_out):
            paint, text = colour(1)
            mark = "o" if len(held_out) < 5 else ""
            (line,) = ax.plot(checks, held_out, color=paint, linewidth=1.8, marker=mark, ms=4)
            labels.append((line, "validation", text))
    data_top = ax.dataLim.y1
    if yscale == "log":
        ax.set_ylim(low / 1.5, min(top, data_top * 1.3))
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

    `steps` updates are drawn, so step 0 up to `steps - 1`; a jump stands upright at the step where
    the new value holds. Lists are labelled by their calls.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    plans = named(schedule, "schedule")
    ax = own_axes(width_for(plans)) if ax is None else given_axes(ax)
    labels = []
    for index, (name, one) in enumerate(plans.items()):
        paint, text = colour(index)
        (line,) = ax.plot(*sampled_rates(one, steps), color=paint, linewidth=1.8)
        labels.append((line, name, text))
    ax.margins(x=0.02)
    if yscale == "linear":
        ax.set_ylim(bottom=min(0.0, ax.dataLim.y0))
    dress(ax, title=title, xlabel="step", ylabel="learning rate", yscale=yscale)
    ax.spines["bottom"].set_color(INK)
    label_ends(ax, [entry for entry in labels if entry[1]])
    return ax
