"""Pictures of advice: a range test with every rule's mark, and a run with what was found in it."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize.diagnosis import diagnose, words
from stepsize.finder.suggestions import RULE_NAMES
from stepsize.plots.runs import run_curves
from stepsize.plots.style import MUTED, colour, dress, given_axes, number, own_axes
from stepsize.plots.views import series

__all__ = ["diagnosed", "range_test"]

# The name along the peak's line, in shares of the axes: where it may stand, what it covers.
_NAME_HEIGHTS, _NAME_WIDTH, _NAME_LENGTH = (0.55, 0.62, 0.7, 0.48, 0.4), 0.06, 0.3
_TONES = {"info": 2, "warning": 4, "critical": 1}  # indices of colours


def range_test(result: Any, ax: Any = None, *, title: str = "") -> Any:
    """Draw a learning-rate range test and the rate it suggests; returns matplotlib axes.

    Dots are the losses met, those above the picture arrows at its top, the line their moving
    average. Rings are where the races at constant rates ended, which decide. The band is where the
    best constant rate is likely to be, the dotted line the top for a one-cycle schedule; the ticks
    below are what other rules for reading the curve would have said.
    """
    ax = own_axes() if ax is None else given_axes(ax)
    lrs, losses = np.asarray(result.lrs, float), np.asarray(result.losses, float)
    smoothed = np.asarray(result.smoothed, float)
    races = _race_ends(getattr(result, "probes", ()))
    seen = np.concatenate([losses, smoothed, races[:, 1]])
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        raise ValueError("nothing to draw: no loss of the range test is finite")
    start = float(np.nanmean(smoothed[: max(1, len(smoothed) // 10)]))
    start = start if np.isfinite(start) else float(seen[0])
    low = float(seen.min())
    height = max(start - low, 0.05 * abs(start), 1e-12)
    top = start + 0.6 * height
    paint, _ = colour(0)
    ax.plot(lrs, losses, ".", color=paint, alpha=0.3, markersize=3)
    ax.plot(lrs, smoothed, color=paint, linewidth=1.8)
    ax.annotate(
        "smoothed loss", (lrs[0], min(smoothed[0], top)), xytext=(2, 5),
        textcoords="offset points", color=colour(0)[1], fontsize=8,
    )  # fmt: skip
    _above(ax, lrs[~(losses <= top)])
    if len(races):
        ax.plot(*races[races[:, 1] <= top].T, "o", mfc="none", mec=colour(1)[0], ms=5, mew=1.2)
        _above(ax, races[~(races[:, 1] <= top), 0], colour(1)[0])
    marks = [(rate, name) for name, rate in result.suggestions.items() if name != "race"]
    marks = sorted((rate, name) for rate, name in marks if np.isfinite(rate))
    ax.set_ylim(low - (0.25 + 0.08 * len(marks)) * height, top)
    log = len(lrs) > 2 and lrs[0] > 0 and lrs[-1] / lrs[0] > 50
    ax.margins(x=0.02)
    scale = "log" if log else "linear"
    dress(ax, title=title, xlabel="learning rate", ylabel="loss", xscale=scale)
    # The room below is for the names of rules: no loss lies there.
    ax.set_yticks([tick for tick in ax.get_yticks() if low - 0.1 * height <= tick <= top])
    if len(races):
        _name_races(ax, races[races[:, 1] <= top])
    _rules(ax, marks, result.suggestion)
    if np.isfinite(result.suggestion):
        _suggestion(ax, result, races[races[:, 1] <= top])
    return ax


def _race_ends(probes: Any) -> NDArray[Any]:
    """Rate and late loss of each race at a constant rate; infinite where it failed at once."""
    ends = [
        (rate, float(np.mean(losses[-max(1, len(losses) // 3) :])) if len(losses) else np.inf)
        for rate, losses in probes
    ]
    return np.array(ends, float).reshape(-1, 2)


def _name_races(ax: Any, races: NDArray[Any]) -> None:
    if len(races):
        ax.annotate(
            "constant rates", races[races[:, 0].argmax()], xytext=(5, 0),
            textcoords="offset points", va="center", color=colour(1)[1], fontsize=8,
        )  # fmt: skip


def _above(ax: Any, rates: NDArray[Any], paint: str = colour(0)[0]) -> None:
    """An arrow at the top for each rate whose loss lies above the picture."""
    ax.plot(
        rates, np.full(len(rates), 0.985), "^", color=paint, alpha=0.5, ms=3.5, mew=0,
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip


def _places(ax: Any, rates: list[float]) -> list[float]:
    """Where rates are, in widths of the axes."""
    points = ax.transData.transform(np.column_stack([rates, np.zeros(len(rates))]))
    return [float(x) for x in ax.transAxes.inverted().transform(points)[:, 0]]


def _rules(ax: Any, marks: list[tuple[float, str]], suggestion: float) -> None:
    """A tick and a name for each rule, one above the other, away from the suggestion."""
    if not marks:
        return
    places = _places(ax, [rate for rate, _ in marks])
    for row, ((rate, name), place) in enumerate(zip(marks, places, strict=True)):
        y = 0.04 + 0.058 * row
        ax.plot([rate], [y], "|", color=MUTED, ms=7, mew=1.4, transform=ax.get_xaxis_transform())
        left = place > 0.75 or (rate <= suggestion and place > 0.25)
        ax.annotate(
            RULE_NAMES.get(name, name), (rate, y), xycoords=("data", "axes fraction"),
            xytext=(-5 if left else 5, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", color=MUTED, fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip


def _suggestion(ax: Any, result: Any, rings: NDArray[Any]) -> None:
    """The suggested rate, its interval, and the peak where that is another."""
    mark, dark = colour(1)
    limits = ax.get_xlim()
    low, high = getattr(result, "interval", (np.nan, np.nan))
    if np.isfinite(low) and np.isfinite(high):
        ax.axvspan(low, high, color=mark, alpha=0.12, linewidth=0)
    ax.axvline(result.suggestion, color=mark, linewidth=1.5)
    peak = getattr(result, "peak", result.suggestion)
    if abs(np.log(peak / result.suggestion)) > 0.1:
        ax.axvline(peak, color=mark, linewidth=1.2, linestyle=":")
        _name_peak(ax, peak, peak < result.suggestion, rings)
    # A band may reach beyond the test, a suggestion must be seen.
    ax.set_xlim(min(limits[0], result.suggestion), max(limits[1], result.suggestion, peak))
    far = _places(ax, [result.suggestion])[0] > 0.5
    words = f"suggested {number(float(f'{result.suggestion:.2g}'))}"
    if hasattr(result, "confidence"):
        words += f"\n{result.confidence} confidence"
    ax.annotate(
        words, (min(result.suggestion, peak) if far else max(result.suggestion, peak), 0.97),
        xycoords=("data", "axes fraction"), xytext=(-6 if far else 6, 0),
        textcoords="offset points", ha="right" if far else "left", va="top", color=dark,
        fontsize=9.5, fontweight="bold",
    )  # fmt: skip


def _name_peak(ax: Any, peak: float, left: bool, rings: NDArray[Any]) -> None:
    """The name of the dotted line, along it, clear of the suggestion's at the top and of rings."""
    at = ax.transAxes.inverted().transform(ax.transData.transform(rings)) if len(rings) else rings
    near = at[np.abs(at[:, 0] - _places(ax, [peak])[0]) < _NAME_WIDTH, 1]
    height = max(_NAME_HEIGHTS, key=lambda y: min([*np.abs(near - y), _NAME_LENGTH]))
    ax.annotate(
        f"schedule peak {number(float(f'{peak:.2g}'))}", (peak, height),
        xycoords=("data", "axes fraction"), xytext=(-3 if left else 3, 0),
        textcoords="offset points", rotation=90, ha="right" if left else "left", va="center",
        color=colour(1)[1], fontsize=8,
    )  # fmt: skip


def diagnosed(history: Any, diagnosis: Any = None, ax: Any = None, *, title: str = "") -> Any:
    """Draw a run with what was found in it, each finding over the part that it speaks of.

    `diagnosis` is made from the history if it is not given. The verdict stands above, and on a
    figure of its own the evidence below the curves. Returns the axes of the loss.
    """
    diagnosis = diagnose(history) if diagnosis is None else diagnosis
    own = ax is None
    ax = run_curves(history, own_axes(width=5.6, height=4.6) if own else ax)
    steps, _ = series(history, "loss")
    rows = max(float(np.asarray(history["step"])[-1]) if "step" in history else len(steps), 1.0)
    for row, finding in enumerate(diagnosis.findings[:3]):
        paint, dark = colour(_TONES[finding.severity])
        begin, end = (rows * share for share in finding.span)
        ax.axvspan(begin, end, color=paint, alpha=0.16 if row == 0 else 0.08, linewidth=0, zorder=0)
        late = sum(finding.span) / 2 > 0.5
        ax.annotate(
            words(finding.kind), (end if late else begin, 0.98 - 0.085 * row),
            xycoords=("data", "axes fraction"), xytext=(-4 if late else 4, 0),
            textcoords="offset points", ha="right" if late else "left", va="top", color=dark,
            fontsize=9.5, fontweight="bold" if row == 0 else "normal",
        )  # fmt: skip
    lead = words(diagnosis.verdict) if diagnosis.enough_data else "not enough data"
    ax.set_title(
        title or lead.capitalize(), loc="left", color=colour(6)[1], fontsize=11, fontweight="bold"
    )
    told = textwrap.fill(str(diagnosis).partition(". ")[2], 92)
    if own:
        # The one text below axes that a constrained layout makes room for.
        ax.figure.supxlabel(f"\n{told}", x=0.02, ha="left", color=MUTED, fontsize=8)
    return ax
