"""One run in full: loss, validation, the gap between them, and the rate below."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.plots.style import MUTED, colour, dress, new_axes
from stepsize.plots.views import learning_curves, series, smooth

__all__ = ["run_curves"]


def run_curves(history: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw one run: learning curves, the gap between them shaded, the rate on axes below.

    Dotted lines mark where the run was resumed. Returns the axes of the loss; those of the rate are
    the last of its child axes.
    """
    ax = learning_curves(history, new_axes(height=3.6) if ax is None else ax, title=title)
    limits = ax.get_xlim()
    checks, held_out = series(history, "val_loss")
    steps, losses = series(history, "loss")
    if len(checks) > 1:
        training = np.interp(checks, steps, smooth(losses, len(losses) // 40))
        ax.fill_between(
            checks, training, held_out, where=held_out > training, color=colour(1)[0], alpha=0.08
        )
    for step in getattr(history, "meta", {}).get("resumed", ()):
        ax.axvline(step, color=MUTED, linewidth=0.9, linestyle=":")
        ax.annotate(
            "resumed", (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
            textcoords="offset points", color=MUTED, fontsize=8,
        )  # fmt: skip
    at, rates = series(history, "lr")
    if len(at):
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
        below = ax.inset_axes((0, -0.34, 1, 0.26))
        below.plot(at, rates, color=colour(2)[0], linewidth=1.6)
        below.set_xlim(limits)
        below.set_ylim(bottom=0, top=1.15 * rates.max() or 1)
        dress(below, xlabel="step", ylabel="rate")
    return ax
