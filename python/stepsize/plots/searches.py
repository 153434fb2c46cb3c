"""The picture of a search: what each run came to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.plots.style import MUTED, colour, dress, new_axes, number

__all__ = ["tuning"]


def tuning(result: Any, ax: Any = None, *, title: str = "", name: str | None = None) -> Any:
    """Draw the value of every run of a search over one hyperparameter; returns matplotlib axes.

    `name` chooses it; by default the first number of the space, else runs in their order. Rings are
    runs that were stopped, at their last report; ticks on top are runs that diverged.
    """
    ax = new_axes() if ax is None else ax
    trials = list(result.trials)
    numbers = [k for k, v in trials[0].point.items() if isinstance(v, float)]
    name = name or (numbers[0] if numbers else None)
    at = [float(t.point[name]) if name else float(k) for k, t in enumerate(trials)]
    (paint, _), (mark, mark_text) = colour(0), colour(1)
    for x, trial in zip(at, trials, strict=True):
        last = trial.value if trial.state == "done" else _last(trial.reports)
        if trial.state == "diverged" or not math.isfinite(last):
            ax.plot([x], [0.97], "|", color=MUTED, ms=8, transform=ax.get_xaxis_transform())
        elif trial.state == "done":
            ax.plot(x, last, "o", color=paint, ms=5)
        else:
            ax.plot(x, last, "o", mfc="none", mec=paint, alpha=0.5, ms=5)
    ax.update_datalim(np.column_stack([at, np.ones(len(at))]), updatey=False)
    log = name is not None and min(at) > 0 and max(at) / min(at) > 20
    dress(
        ax,
        title=title,
        xlabel="learning rate" if name == "lr" else name or "run",
        ylabel="value",
        xscale="log" if log else "linear",
    )
    if math.isfinite(result.best_value):
        best = min(range(len(trials)), key=lambda k: trials[k].value)
        ax.plot(at[best], result.best_value, "o", color=mark, ms=8)
        ax.annotate(
            f"best {number(at[best])}" if name else "best",
            (at[best], result.best_value),
            xytext=(0, -14),
            textcoords="offset points",
            ha="center",
            color=mark_text,
            fontsize=9.5,
            fontweight="bold",
        )
        ax.margins(y=0.15)
    return ax


def _last(reports: Any) -> float:
    return float(reports[-1][1]) if reports else math.inf
