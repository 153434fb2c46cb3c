"""One run in full: loss and validation, the gap between them, other metrics and the rate below."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.curves import with_risers
from stepsize.plots.style import MUTED, colour, dress, given_axes, label_ends, own_axes, width_for
from stepsize.plots.views import learning_curves, metrics_of, series, smoothed

__all__ = ["run_curves"]

HEIGHTS = (3.0, 1.3, 1.0)  # of the loss, of each panel of metrics, and of the rate
GAP = 0.3  # between two of them
ONE_SCALE = 4  # ratio of the largest values of metrics that share a panel

Drawn = tuple[NDArray[Any], NDArray[Any]]


def run_curves(history: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw one run: learning curves, the gap between them shaded, below them metrics and the rate.

    Validation metrics other than the loss stand in panels of their own, together where their scales
    are alike. Dotted lines mark where the run was resumed. Axes given are divided: metrics and rate
    are drawn in their lower part. Returns the axes of the loss; those of the rate are the last of
    the figure, ``ax.figure.axes[-1]``.
    """
    own = ax is None
    at, rates = series(history, "lr")
    metrics = metrics_of(history)
    panels = _panels(metrics)
    heights = [HEIGHTS[0], *(HEIGHTS[1] for _ in panels), *(HEIGHTS[2:] if len(at) else ())]
    height = 0.75 * sum(heights) + 0.9 * (len(heights) < 2) + 0.1
    ax = own_axes(width_for(metrics), height) if own else given_axes(ax)
    below = _room_below(ax, heights) if len(heights) > 1 else []
    learning_curves(history, ax, title=title)
    _gap(ax, history)
    for each in (ax, *below):
        _resumed(each, history, told=each is ax)
    for panel, shown in zip(below, panels, strict=False):
        _metrics(panel, shown)
    if len(at):
        below[-1].plot(*with_risers(at, rates), color=colour(2)[0], linewidth=1.6)
        below[-1].set_ylim(bottom=min(0.0, 1.15 * rates.min()), top=1.15 * rates.max() or 1)
        dress(below[-1], ylabel="rate")
    if below:
        for upper in (ax, *below[:-1]):
            upper.set_xlabel("")
            upper.tick_params(labelbottom=False)
        dress(below[-1], xlabel="step", ylabel=below[-1].get_ylabel())
        # What a user adds next belongs to the loss.
        ax.figure.sca(ax)
    return ax


def _gap(ax: Any, history: Any) -> None:
    """The gap between training and validation loss, where the latter is above."""
    checks, held_out = series(history, "val_loss")
    steps, losses = series(history, "loss")
    if len(checks) > 1:
        (average,) = smoothed([losses], ax.get_yscale() == "log")
        training = np.interp(checks, steps, average)
        ax.fill_between(
            checks, training, held_out, where=held_out > training, color=colour(1)[0], alpha=0.08
        )


def _resumed(ax: Any, history: Any, told: bool) -> None:
    told_of = getattr(history, "meta", {}).get("resumed", ())
    for step in told_of if isinstance(told_of, list | tuple) else ():
        if isinstance(step, bool) or not isinstance(step, int | float):
            continue  # a file's, which anyone may have written
        ax.axvline(step, color=MUTED, linewidth=0.9, linestyle=":")
        if told:
            ax.annotate(
                "resumed", (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
                textcoords="offset points", color=MUTED, fontsize=8,
            )  # fmt: skip


def _panels(metrics: dict[str, Drawn]) -> list[dict[str, Drawn]]:
    """The metrics in panels: those of one scale together, in the order of the first of each."""
    panels: list[tuple[float, dict[str, Drawn]]] = []
    for name, drawn in metrics.items():
        size = float(np.abs(drawn[1]).max())
        for other, panel in panels:
            if max(size, other) <= ONE_SCALE * min(size, other):
                panel[name] = drawn
                break
        else:
            panels.append((size, {name: drawn}))
    return [panel for _, panel in panels]


def _metrics(ax: Any, metrics: dict[str, Drawn]) -> None:
    labels = []
    for index, (name, (at, values)) in enumerate(metrics.items()):
        paint, text = colour(index + 3)
        mark = "o" if len(values) < 5 else ""
        (line,) = ax.plot(at, values, color=paint, linewidth=1.6, marker=mark, ms=4)
        labels.append((line, name, text))
    alone = len(labels) == 1
    ax.margins(y=0.12)
    # A long name alone is better read beside the line than up the side.
    across = alone and len(labels[0][1]) > 12
    dress(ax, ylabel=labels[0][1] if alone and not across else "")
    if not alone or across:
        label_ends(ax, labels)


def _room_below(ax: Any, heights: list[float]) -> list[Any]:
    """New axes in the lower part of the place of others, which keep the first of these heights."""
    figure, spec = ax.figure, ax.get_subplotspec()
    if spec is not None:
        upper, *lower = spec.subgridspec(len(heights), 1, height_ratios=heights)
        ax.set_subplotspec(upper)
        return [figure.add_subplot(place, sharex=ax) for place in lower]
    box = ax.get_position()
    unit = box.height / (sum(heights) + GAP * (len(heights) - 1))
    top, made = box.y1 - unit * heights[0], []
    ax.set_position((box.x0, top, box.width, unit * heights[0]))
    for height in heights[1:]:
        top -= unit * (height + GAP)
        made.append(figure.add_axes((box.x0, top, box.width, unit * height), sharex=ax))
    return made
