"""General charts: curves with their spread, comparisons, heat maps, paths over a landscape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsize.plots.style import (
    INK,
    MUTED,
    colour,
    dress,
    given_axes,
    key,
    label_ends,
    makes_room,
    own_axes,
)

__all__ = ["comparison", "curves", "heatmap", "landscape"]


def curves(
    x: ArrayLike,
    lines: Mapping[str, ArrayLike],
    *,
    ax: Any = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    xscale: str = "linear",
    yscale: str = "linear",
    ylim: tuple[float | None, float | None] | None = None,
    marker: str = "",
) -> Any:
    """Draw named lines over `x`, each labelled at its end; returns the axes.

    A line is a row of values, or one row per seed: then the median is drawn in a band from the
    lowest to the highest. NaN leaves a gap.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    at = np.asarray(x, float)
    labels = []
    for index, (name, values) in enumerate(lines.items()):
        rows = np.atleast_2d(np.asarray(values, float))
        paint, text = colour(index)
        # A column of NaN is a gap, not a mistake; keep it NaN without asking nanmedian.
        seen = np.isfinite(rows).any(axis=0)
        middle, low, high = (np.full(at.shape, np.nan) for _ in range(3))
        middle[seen] = np.nanmedian(rows[:, seen], axis=0)
        low[seen], high[seen] = (f(rows[:, seen], axis=0) for f in (np.nanmin, np.nanmax))
        (line,) = ax.plot(at, middle, color=paint, linewidth=1.8, marker=marker, markersize=3.5)
        if len(rows) > 1:
            ax.fill_between(at, low, high, color=paint, alpha=0.18, linewidth=0)
        labels.append((line, name, text))
    # A rate at which every run diverged still belongs on the axis.
    ax.update_datalim(np.column_stack([at, np.ones(at.shape)]), updatey=False)
    ax.margins(x=0.02)
    if ylim is not None:
        ax.set_ylim(*ylim)
    dress(ax, title=title, xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    label_ends(ax, labels)
    return ax


def comparison(
    results: Mapping[str, ArrayLike],
    *,
    ax: Any = None,
    title: str = "",
    xlabel: str = "",
    xscale: str = "linear",
    form: str = "{:.4g}",
    highlight: str | None = None,
    lost: str = "diverged",
) -> Any:
    """Draw one row of dots per name: every seed faint, their mean strong and written by `form`.

    A value that is not finite is counted in words instead: `lost` says what befell it. Rows keep
    the order given, the first on top. Returns the axes.
    """
    ax = own_axes(height=0.9 + 0.32 * len(results)) if ax is None else given_axes(ax)
    names, room = list(results), makes_room(ax)
    for row, name in enumerate(names):
        values = np.atleast_1d(np.asarray(results[name], float))
        finite = values[np.isfinite(values)]
        paint, text = colour(1 if name == highlight else 0)
        if len(finite):
            if len(finite) > 1:
                ax.plot(finite, np.full(len(finite), row), "o", color=paint, alpha=0.3, ms=4)
            ax.plot(finite.mean(), row, "o", color=paint, ms=7)
        gone = len(values) - len(finite)
        words = form.format(finite.mean()) if len(finite) else ""
        if gone:
            words += f"{', ' if words else ''}{gone} of {len(values)} {lost}"
        ax.annotate(
            words, (1.0, row), xycoords=("axes fraction", "data"), xytext=(6 if room else -2, 0),
            textcoords="offset points", ha="left" if room else "right", va="center", fontsize=9.5,
            color=text, annotation_clip=False,
        )  # fmt: skip
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.margins(x=0.06 if room else 0.35)
    dress(ax, title=title, xlabel=xlabel, xscale=xscale)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax


def heatmap(
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    *,
    ax: Any = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    xscale: str = "log",
    yscale: str = "linear",
    label: str = "",
) -> Any:
    """Draw `values[i, j]` at (`x[j]`, `y[i]`) as colours; what is not finite stays hatched.

    `y` may hold names. The best cell is up to the caller to mark. Returns the axes.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    table = np.ma.masked_invalid(np.asarray(values, float))
    rows = np.asarray(y)
    names = rows.tolist() if rows.dtype.kind == "U" else None
    rows = np.arange(len(table)) if names else rows.astype(float)
    # The edges come first: a logarithmic scale decides where the middle of two cells is.
    mesh = ax.pcolormesh(
        _edges(np.asarray(x, float), xscale), _edges(rows, yscale), table, cmap="cividis"
    )
    ax.patch.set(hatch="////", edgecolor=MUTED, facecolor="none", linewidth=0)
    dress(ax, title=title, xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    ax.grid(False)
    if names:
        ax.set_yticks(rows, names)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label(label, color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, color=MUTED)
    bar.outline.set_visible(False)
    return ax


def _edges(centres: NDArray[Any], scale: str) -> NDArray[Any]:
    c = np.log(centres) if scale == "log" else centres
    if len(c) == 1:
        edges = np.array([c[0] - 0.5, c[0] + 0.5])
    else:
        middle = (c[1:] + c[:-1]) / 2
        edges = np.concatenate([[2 * c[0] - middle[0]], middle, [2 * c[-1] - middle[-1]]])
    return np.exp(edges) if scale == "log" else edges


def landscape(
    problem: Any,
    paths: Mapping[str, ArrayLike],
    *,
    ax: Any = None,
    title: str = "",
    xlim: tuple[float, float] = (-2.0, 2.0),
    ylim: tuple[float, float] = (-2.0, 2.0),
) -> Any:
    """Draw paths, each (steps, 2), over the contours of one of the test functions.

    Crosses mark the minima, rings the starts. Returns the axes.
    """
    ax = own_axes(height=3.6) if ax is None else given_axes(ax)
    function = problem.value_and_grad
    gx, gy = np.meshgrid(np.linspace(*xlim, 160), np.linspace(*ylim, 160))
    heights = function.value(gx, gy)
    # Logarithmic heights: valley floors and walls are both seen.
    heights = np.log1p(heights - heights.min())
    ax.contourf(gx, gy, heights, levels=14, cmap="Greys", alpha=0.35)
    labels = []
    for index, (name, path) in enumerate(paths.items()):
        xy = np.asarray(path, float)
        paint, text = colour(index)
        (line,) = ax.plot(xy[:, 0], xy[:, 1], color=paint, linewidth=1.5, marker="o", ms=2)
        ax.plot(*xy[0], "o", ms=8, mfc="none", mec=INK)
        labels.append((line, name, text))
    for minimum in function.minima:
        ax.plot(*minimum, "x", color=INK, ms=7, mew=1.8)
    ax.set(xlim=xlim, ylim=ylim)
    dress(ax, title=title, xlabel="x", ylabel="y")
    ax.grid(False)
    key(ax, labels)
    return ax
