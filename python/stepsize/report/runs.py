"""The cards of a run, whole or going on: its picture, and what was measured in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stepsize import plots
from stepsize.arrays import Curve
from stepsize.curves import svg_line
from stepsize.report.notebook import Card, picture
from stepsize.training.history import History
from stepsize.validation import counted

__all__ = ["curves", "every", "live", "ran", "thinned"]

DRAWN = 4_000  # rows of a history that a picture shows
PANELS = 6  # validation metrics in a picture
SPARK = 60  # points of a curve in a table


def live(history: Any) -> str:
    """The card of a run that goes on: its picture, and where it is."""
    step = history["step"][-1] if history.steps else 0
    names = [name for name in history if name in ("loss", "lr") or name.startswith("val_")]
    latest = ", ".join(f"{name} {history.last(name):.4g}" for name in names[: PANELS + 2])
    lead = history.stopped or f"step {step:,.0f}"
    card = Card("Run", lead, chip=str(history.meta.get("rule", "")))
    card.note(latest)
    card.figure(curves(history, "the run so far"))
    return card.html()


def thinned(history: Any) -> Any:
    """A history of no more rows and metrics than a picture can show; itself where it is short.

    Every so many rows are kept, the lowest and highest loss, and of what is measured now and then
    as many values as there would be of a whole series.
    """
    extra = [str(k) for k in history if str(k).startswith("val_") and k != "val_loss"]
    names = [n for n in ("step", "epoch", "loss", "lr", "val_loss") if n in history]
    names += extra[:PANELS]
    rows = len(history["loss"]) if "loss" in history else 0
    if rows <= DRAWN and len(extra) <= PANELS:
        return history
    kept = {0, rows - 1, *every(np.arange(rows), DRAWN)}
    for name in names:
        seen = np.flatnonzero(np.isfinite(history[name]))
        if name == "loss" and len(seen):
            kept |= {int(seen[np.argmin(history[name][seen])])}
            kept |= {int(seen[np.argmax(history[name][seen])])}
        elif name.startswith("val_") and len(seen) < rows / 2:
            kept |= set(every(seen, DRAWN // 4))
    at = np.array(sorted(kept), np.intp)
    short = History.from_arrays(**{name: history[name][at] for name in names})
    short.meta, short.stopped = history.meta, history.stopped
    return short


def every(rows: Any, most: int) -> list[int]:
    """At most so many of these rows, evenly spaced."""
    if len(rows) <= most:
        return [int(row) for row in rows]
    return [int(row) for row in rows[np.linspace(0, len(rows) - 1, most).astype(int)]]


def curves(history: Any, title: str) -> str:
    """The picture of a run as markup."""
    return picture(lambda: plots.run_curves(thinned(history)), title)


def ran(history: Any) -> Card:
    """The card of a history."""
    lead = repr(history).removeprefix("History(").removesuffix(")")
    card = Card("History", lead, chip=str(history.meta.get("rule", "")))
    if not history.steps:
        card.note("no step was recorded")
        return card
    names = [name for name in history if name not in ("step", "epoch")]
    card.figure(curves(history, "the run"))
    card.note(_lost(history))
    header = ("", "", "first", "last", "lowest", "highest")
    card.table(header, _measured(history, names), total=len(names), raw=(1,))
    return card


def _lost(history: Any) -> str:
    """What became of the loss where it is not finite, in words."""
    loss = history["loss"] if "loss" in history else np.zeros(1)
    lost = np.flatnonzero(~np.isfinite(loss))
    if not len(lost):
        return ""
    if len(lost) == len(loss):
        return "the loss is finite at no step: there is nothing to draw"
    return (
        f"the loss is not finite at {counted(len(lost), 'step')}, first at step "
        f"{history['step'][lost[0]]:,.0f}; lowest and highest are of the others"
    )


def _measured(history: Mapping[str, Curve], names: list[str]) -> Iterator[tuple[str, ...]]:
    for name in names:
        # NaN means "not measured here", but for the loss, which each step has.
        values = history[name] if name == "loss" else history[name][~np.isnan(history[name])]
        finite = values[np.isfinite(values)]
        ends = [values[0], values[-1]] if values.size else []
        ends += [finite.min(), finite.max()] if finite.size else []
        cells = [f"{value:.4g}" for value in ends] + ["-"] * (4 - len(ends))
        yield name, _spark(finite) if finite.size else "", *cells


def _spark(values: Curve) -> str:
    """A line of a few points."""
    values = values[np.linspace(0, values.size - 1, min(values.size, SPARK)).astype(int)]
    line = svg_line(np.arange(values.size), values, (1, 1, 99, 15))
    return f'<svg width="100" height="16">{line}</svg>'
