"""Pictures for the generated pages: the path of every rule, the curve of every schedule."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import stepsize as ss
from stepsize import plots, problems
from stepsize.optimizers import Optimizer
from stepsize.plots.style import COLOURS, MUTED, dress, offscreen

# Where a rule treats a matrix in its own way and a vector in another's, two numbers are a matrix.
MATRIX_RULES = ("Kron", "Muon", "SOAP")
RATES = tuple(m * 10.0**e for e in range(-4, 1) for m in (1, 2, 5))
LONGEST = 0.25  # a step that can still be followed by eye
PLACES = {
    "rosenbrock": {"start": (-1.4, 1.9), "steps": 500, "xlim": (-2.0, 2.0), "ylim": (-1.0, 3.0)},
    "saddle": {"start": (1.0, 1e-3), "steps": 100, "xlim": (-1.3, 1.3), "ylim": (-0.4, 1.4)},
}


class Path2D(NamedTuple):
    """The points that a rule went through, and its rate."""

    rate: float
    points: np.ndarray
    cost: float

    @property
    def longest(self) -> float:
        return float(np.hypot(*np.diff(self.points, axis=0).T).max())


@cache
def path(cls: type[Optimizer], place: str) -> Path2D:
    """The rule's path at the rate, of `RATES`, with the lowest mean logarithm of the loss.

    Rates whose steps are longer than `LONGEST` do not count. A rule that finds its rate goes at
    the largest share of it that does not leave the picture.
    """
    if cls.adapts_lr:
        default = cls.fields["lr"].default
        shares = (walk(cls, place, default * share) for share in (1.0, 0.5, 0.2, 0.1))
        return next(found for found in shares if found.cost < math.inf)
    found = [walk(cls, place, rate) for rate in RATES]
    return min(found, key=lambda one: one.cost if one.longest <= LONGEST else math.inf)


def walk(cls: type[Optimizer], place: str, rate: float | None) -> Path2D:
    problem = getattr(problems, place)(PLACES[place]["start"])
    formula, (goal, *_) = problem.value_and_grad.formula, problem.value_and_grad.minima
    floor = formula(*goal)[0]
    x = problem.params.copy()
    shaped = x.reshape(1, 2) if cls.__name__ in MATRIX_RULES else x
    optimizer = cls(shaped, lr=rate)
    points, cost, steps = [x.copy()], 0.0, PLACES[place]["steps"]

    def value_and_grad(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, dx, dy = formula(*at.ravel().tolist())
        return value, np.array([dx, dy]).reshape(at.shape)

    for _ in range(steps):
        if cls.needs_closure:
            optimizer.step(value_and_grad)
        else:
            loss, grads = value_and_grad(shaped)
            optimizer.step(grads, loss=loss)
        answer = optimizer.eval_params() if hasattr(optimizer, "eval_params") else x
        points.append(np.array(answer).ravel())
        if not np.abs(points[-1]).max() < 4:
            return Path2D(optimizer.lr, np.array(points), math.inf)
        cost += math.log10(formula(*points[-1].tolist())[0] - floor + 1e-6) / steps
    return Path2D(optimizer.lr, np.array(points), cost)


def paths(cls: type[Optimizer], file: Path) -> None:
    """Draw the rule beside gradient descent on both landscapes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.7), dpi=120)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.92, bottom=0.24, wspace=0.22)
    for ax, (place, view) in zip(figure.subplots(1, 2), PLACES.items(), strict=True):
        lines = {cls.__name__: path(cls, place).points}
        if cls is not ss.SGD:
            lines = {"gradient descent": path(ss.SGD, place).points} | lines
        plots.landscape(
            getattr(problems, place)(), lines, ax=ax, xlim=view["xlim"], ylim=view["ylim"]
        )
        for line, paint in zip(reversed(_paths(ax)), (COLOURS[0][0], MUTED), strict=False):
            line.set_color(paint)
        ax.get_legend().remove()
        title = f"{place.capitalize()}: {view['steps']} steps, lr = {path(cls, place).rate:g}"
        dress(ax, title=title, xlabel="x", ylabel="y")
        ax.grid(False)
    handles = _paths(figure.axes[0])
    figure.legend(handles, list(lines), loc="lower center", ncols=2, frameon=False)
    file.write_bytes(plots.png(figure.axes[0], dpi=120))


def _paths(ax: Any) -> list[Any]:
    return [line for line in ax.lines if len(line.get_xdata()) > 1]


def curve(schedule: ss.Schedule, file: Path) -> None:
    """Draw the schedule over 1,000 steps."""
    with offscreen():
        ax = plots.schedule({"": schedule}, steps=1001)
        ax.figure.set_size_inches(6.4, 2.9)
        file.write_bytes(plots.png(ax, dpi=120))
