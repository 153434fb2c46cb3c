"""The pictures of searches: what each run, or each value tried, came to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.plots.style import COLOURS, INK, MUTED, colour, dress, given_axes, number, own_axes
from stepsize.tuning.space import Listed, LogUniform

__all__ = ["parameter", "tuning"]


def tuning(result: Any, ax: Any = None, *, title: str = "", name: str | None = None) -> Any:
    """Draw the value of every run of a search over one hyperparameter; returns matplotlib axes.

    `name` chooses it; by default the first number of the space, else runs in their order. Rings are
    runs that were stopped, at their last report; ticks on top are runs that diverged, failed or
    were killed. Where runs gave their histories, the colour is the verdict of `diagnose`. Where
    only one number was searched, a line joins the runs and the band is its interval.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    trials = list(result.trials)
    numbers = [k for k in trials[0].point if result.is_number(k)]
    name = name or (numbers[0] if numbers else None)
    at = [float(t.point[name]) if name else float(k) for k, t in enumerate(trials)]
    paints = _paints(trials)
    for x, trial in zip(at, trials, strict=True):
        paint = paints[trial.verdict]
        last = trial.value if trial.state == "done" else _last(trial.reports)
        if trial.state in ("diverged", "failed", "killed") or not math.isfinite(last):
            ax.plot([x], [0.97], "|", color=MUTED, ms=8, transform=ax.get_xaxis_transform())
        elif trial.state == "done":
            ax.plot(x, last, "o", color=paint, ms=5, zorder=3)
        else:
            ax.plot(x, last, "o", mfc="none", mec=paint, alpha=0.5, ms=5)
    ax.update_datalim(np.column_stack([at, np.ones(len(at))]), updatey=False)
    log = name is not None and min(at) > 0 and _logarithmic(result, name, at)
    values = [t.value for t in trials if t.state == "done"]
    if min(at) == max(at):
        ax.set_xlim((at[0] / 2, 2 * at[0]) if log else (at[0] - 0.5, at[0] + 0.5))
    dress(
        ax,
        title=title,
        xlabel="learning rate" if name == "lr" else name or "run",
        ylabel="value",
        xscale="log" if log else "linear",
        yscale="log" if values and 0 < min(values) < max(values) / 20 else "linear",
    )
    if name and not log and all(isinstance(t.point[name], int) for t in trials):
        ax.xaxis.get_major_locator().set_params(integer=True)
    _explain(ax, paints)
    if math.isfinite(result.best_value):
        best = trials.index(result.ranked[0])
        if name and len(trials[0].point) == 1 and min(at) < max(at):
            _valley(ax, at, trials, result.interval)
        _mark(ax, at[best], result.best_value, f"best {number(at[best])}" if name else "best")
    return ax


def _paints(trials: list[Any]) -> dict[str, str]:
    """A colour for each verdict; the first one where there is none."""
    found = sorted({trial.verdict for trial in trials} - {""})
    free = (0, *range(2, len(COLOURS)))  # the second colour marks the best run
    return {"": colour(0)[0]} | {v: colour(free[k % len(free)])[0] for k, v in enumerate(found)}


def _explain(ax: Any, paints: dict[str, str]) -> None:
    """A legend of the verdicts, if there are any."""
    told = {verdict: paint for verdict, paint in paints.items() if verdict}
    for verdict, paint in told.items():
        ax.plot([], [], "o", color=paint, ms=5, label=verdict.replace("_", " "))
    if told:
        legend = ax.legend(frameon=False, fontsize=8.5, title="diagnosis", title_fontsize=8.5)
        for text in (legend.get_title(), *legend.get_texts()):
            text.set_color(INK)  # which a page may set to its own


def _logarithmic(result: Any, name: str, at: list[float]) -> bool:
    """Whether the range was searched in the logarithm, or, where that is not told, looks so."""
    space = getattr(result, "space", None) or {}
    if name in space and not isinstance(space[name], Listed):
        return isinstance(space[name], LogUniform)
    return name == "lr" or max(at) / min(at) > 20


def _valley(ax: Any, at: list[float], trials: list[Any], interval: tuple[float, float]) -> None:
    """The line through the runs that ended, and the interval of those as good as the best."""
    ended = sorted((x, t.value) for x, t in zip(at, trials, strict=True) if t.state == "done")
    ax.plot(*zip(*ended, strict=True), color=colour(0)[0], linewidth=1.4, alpha=0.6)
    ax.axvspan(*interval, color=colour(1)[0], alpha=0.12, linewidth=0)


def _mark(ax: Any, x: float, y: float, text: str) -> None:
    paint, dark = colour(1)
    ax.plot(x, y, "o", color=paint, ms=8, zorder=4)
    ax.margins(x=0.06, y=0.18)
    ax.autoscale_view()
    place = ax.transAxes.inverted().transform(ax.transData.transform((x, y)))[0]
    ax.annotate(
        text, (x, y), xytext=(0, -8), textcoords="offset points", va="top", color=dark,
        ha="left" if place < 0.15 else "right" if place > 0.85 else "center",
        fontsize=9.5, fontweight="bold",
    )  # fmt: skip


def parameter(result: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw what each momentum or weight decay came to, or how much a batch size speeds up.

    The band is the interval; returns matplotlib axes.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    name = result.parameter.replace("_", " ")
    paint, _ = colour(0)
    if result.parameter == "batch_size":
        _speed(ax, result)
    else:
        ax.plot(result.values, result.losses, "o-", color=paint, ms=5, linewidth=1.4)
    if result.parameter == "weight_decay" and len(result.values) > 1:
        ax.set_xscale("symlog", linthresh=float(result.values[result.values > 0].min()))
    log = "log" if result.parameter == "batch_size" else ax.get_xscale()
    y = "speed-up over one sample a step" if result.parameter == "batch_size" else "loss"
    dress(ax, title=title, xlabel=name, ylabel=y, xscale=log if log != "symlog" else "linear")
    if log == "symlog":
        ax.set_xscale("symlog", linthresh=float(result.values[result.values > 0].min()))
    if result.usable:
        ax.axvspan(*result.interval, color=colour(1)[0], alpha=0.12, linewidth=0)
        near = int(np.argmin(np.abs(np.asarray(ax.lines[0].get_xdata()) - result.suggestion)))
        height = float(ax.lines[0].get_ydata()[near])
        _mark(ax, result.suggestion, height, number(result.suggestion))
    if result.parameter == "batch_size":
        ax.set_ylim(bottom=0)
    return ax


def _speed(ax: Any, result: Any) -> None:
    """Steps needed fall as 1 + critical / size: McCandlish et al. 2018, equation 2.11."""
    size = np.geomspace(1, max(64.0, 32 * result.suggestion), 97) if result.usable else np.ones(1)
    critical = result.suggestion if result.usable else 1.0
    faster = (1 + critical) / (1 + critical / size)
    ax.plot(size, faster, color=colour(0)[0], linewidth=1.8)


def _last(reports: Any) -> float:
    return float(reports[-1][1]) if reports else math.inf
