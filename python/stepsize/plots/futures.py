"""The picture of an experiment: the run so far and its possible futures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.plots.style import MUTED, colour, dress, given_axes, label_ends, own_axes
from stepsize.plots.views import series, smoothed

__all__ = ["futures"]

PAST = 2  # of the run so far, this many times the length of a branch is drawn
LOGARITHMIC = 20  # ratio of losses from which on the axis is logarithmic
BAND = (0.02, 0.98)  # quantiles of the losses that are drawn: one batch must not flatten all others


def futures(result: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw the losses of a run and of its branches at other rates; returns matplotlib axes.

    Faint lines are the losses of each step. A thick line leads from the held loss now to that at
    the end of each branch, a dot with a bar of one standard error. A branch that diverged ends with
    a cross where its loss left the picture.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    now, end = result.run_steps, result.run_steps + result.steps
    at, past = _past(result)
    level = float(result.before.mean())
    low, top = _limits(past, result)
    log = low > 0 and top / low > LOGARITHMIC
    if len(past):
        past = np.minimum(past, 2 * top - low)
        ax.plot(at, past, color=MUTED, linewidth=0.7, alpha=0.35)
        ax.plot(at, smoothed([past], log)[0], color=MUTED, linewidth=1.8)
    ax.axvline(now, color=MUTED, linewidth=0.9, linestyle=":")
    labels = []
    for index, branch in enumerate(result.branches):
        paint, dark = colour(index)
        steps = now + 1 + np.arange(len(branch.losses))
        shown = np.minimum(branch.losses, 2 * top - low)  # what is above is out of the picture
        ax.plot(steps, shown, color=paint, linewidth=0.7, alpha=0.3)
        if branch.diverged:
            last = steps[-1] if len(steps) else now
            (line,) = ax.plot([now, last], [level, top], color=paint, linewidth=1.2, linestyle="--")
            ax.plot(last, top, "x", color=paint, ms=7, clip_on=False)
            labels.append((line, f"x{branch.factor:g} diverges", dark))
            continue
        ended = float(branch.held.mean())
        error = branch.held.std(ddof=1) / np.sqrt(len(branch.held))
        (line,) = ax.plot([now, end], [level, ended], color=paint, linewidth=2.0)
        ax.errorbar(end, ended, error, fmt="o", color=paint, ms=5, capsize=2, zorder=3)
        labels.append((line, f"x{branch.factor:g}  {ended:.3g}", dark))
    dress(ax, title=title, xlabel="step", ylabel="loss", yscale="log" if log else "linear")
    pad = (top / low) ** 0.06 if log else 0.06 * (top - low)
    ax.set_ylim(*((low / pad, top * pad) if log else (low - pad, top + pad)))
    label_ends(ax, labels)
    return ax


def _past(result: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and losses of the end of the run, as long as a few branches."""
    if result.history is None:
        return np.empty(0), np.empty(0)
    at, losses = series(result.history, "loss")
    first = max(0, len(losses) - PAST * result.steps)
    return at[first:], losses[first:]


def _limits(past: NDArray[Any], result: Any) -> tuple[float, float]:
    calm = [b for b in result.branches if not b.diverged]
    seen = np.concatenate([past, result.before, *(b.losses for b in calm)])
    ends = [float(result.before.mean()), *(float(b.held.mean()) for b in calm)]
    low, top = (float(np.quantile(seen, q)) for q in BAND)
    low, top = min(low, *ends), max(top, *ends)
    return (low, top) if top > low else (low - 0.5, top + 0.5)
