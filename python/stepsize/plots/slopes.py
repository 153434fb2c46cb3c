"""The picture of a gradient check: slopes of the loss against what the gradients say."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.plots.style import (
    MUTED,
    colour,
    dress,
    given_axes,
    key,
    own_axes,
    shortened,
    width_for,
)

__all__ = ["gradient_check"]

_FEW = 6  # leaves that fit and still have a colour of their own
_MARGIN = 1.15


def gradient_check(check: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw measured against predicted slopes of a `GradientCheck`; returns matplotlib axes.

    Both are in units of the largest slope of their leaf, so that each leaf fills the picture. What
    fits lies on the diagonal; bars are the error of the measurement. Leaves that fit are grey where
    they are many, and the others carry their names and causes.
    """
    leaves = [
        leaf for leaf in check.leaves.values() if leaf.slopes is not None and len(leaf.slopes)
    ]
    if not leaves:
        raise ValueError("nothing to draw: no slope was measured")
    few = len(leaves) <= _FEW
    named = [_says(leaf) for leaf in leaves if few or not leaf.ok]
    ax = own_axes(width_for(named)) if ax is None else given_axes(ax)
    names: list[tuple[Any, str, str]] = []
    for leaf in sorted(leaves, key=lambda one: one.ok, reverse=True):
        predicted, measured, bars = leaf.slopes.T
        unit = max(float(np.abs(leaf.slopes[:, :2]).max()), np.finfo(float).tiny)
        shown = few or not leaf.ok
        paint, dark = colour(len(names)) if shown else (MUTED, MUTED)
        drawn = ax.errorbar(
            predicted / unit, measured / unit, np.minimum(bars / unit, 10),
            fmt="o" if leaf.ok else "D", color=paint, ms=4, alpha=0.8, elinewidth=0.8, capsize=0,
        )  # fmt: skip
        if shown:
            names.append((drawn[0], _says(leaf), dark))
    ax.plot([-1, 1], [-1, 1], color=MUTED, linewidth=1, zorder=0)
    ax.set_xlim(-_MARGIN, _MARGIN)
    ax.set_ylim(-_MARGIN, _MARGIN)
    words = "slope that the gradient predicts"
    dress(ax, title=title, xlabel=words, ylabel="slope of the loss")
    key(ax, names)
    return ax


def _says(leaf: Any) -> str:
    """The name of a leaf, and what is wrong with it."""
    if leaf.ok:
        return shortened(leaf.path)
    word = str(leaf.cause or leaf.verdict).replace("_", " ")
    return f"{shortened(leaf.path, max(12, 38 - len(word)))}: {word}"
