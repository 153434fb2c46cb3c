"""One run in full: loss, validation, the gap between them, and the rate below."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.curves import with_risers
from stepsize.plots.style import MUTED, colour, dress, own_axes
from stepsize.plots.views import learning_curves, series, smoothed

__all__ = ["run_curves"]

HEIGHTS = (3, 1)  # of the loss and of the rate


def run_curves(history: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw one run: learning curves, the gap between them shaded, the rate on axes below.

    Dotted lines mark where the run was resumed. Axes given are divided: the rate is drawn in their
    lower part. Returns the axes of the loss; those of the rate are its last sibling along x,
    ``ax.get_shared_x_axes().get_siblings(ax)``.
    """
    own = ax is None
    at, rates = series(history, "lr")
    ax = own_axes(height=4.0 if len(at) else 3.0) if own else ax
    below = _room_below(ax) if len(at) else None
    learning_curves(history, ax, title=title)
    checks, held_out = series(history, "val_loss")
    steps, losses = series(history, "loss")
    if len(checks) > 1:
        (average,) = smoothed([losses], ax.get_yscale() == "log")
        training = np.interp(checks, steps, average)
        ax.fill_between(
            checks, training, held_out, where=held_out > training, color=colour(1)[0], alpha=0.08
        )
    for step in getattr(history, "meta", {}).get("resumed", ()):
        ax.axvline(step, color=MUTED, linewidth=0.9, linestyle=":")
        ax.annotate(
            "resumed", (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
            textcoords="offset points", color=MUTED, fontsize=8,
        )  # fmt: skip
    if below is not None:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
        below.plot(*with_risers(at, rates), color=colour(2)[0], linewidth=1.6)
        below.set_ylim(bottom=min(0.0, 1.15 * rates.min()), top=1.15 * rates.max() or 1)
        dress(below, xlabel="step", ylabel="rate")
        # What a user adds next belongs to the loss.
        ax.figure.sca(ax)
    return ax


def _room_below(ax: Any) -> Any:
    """New axes in the lower part of the place of others, which keep the rest of it."""
    figure, spec = ax.figure, ax.get_subplotspec()
    if spec is not None:
        upper, lower = spec.subgridspec(2, 1, height_ratios=HEIGHTS)
        ax.set_subplotspec(upper)
        return figure.add_subplot(lower, sharex=ax)
    box = ax.get_position()
    height = box.height / (sum(HEIGHTS) + 0.3)
    ax.set_position((box.x0, box.y0 + 1.3 * height, box.width, HEIGHTS[0] * height))
    return figure.add_axes((box.x0, box.y0, box.width, height), sharex=ax)
