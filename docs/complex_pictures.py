"""Draws the pictures of docs/complex.md: `python docs/complex_pictures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.plots.style import COLOURS, MUTED, dress

HERE = Path(__file__).parent


def _axes(count: int, width: float, height: float = 3.6) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots(1, count)


def convention(file: Path) -> None:
    """Level lines of |z - goal|^2 with the descent direction, and its conjugate."""
    ax, goal = _axes(1, 5.2), 0.6 + 0.5j
    x, y = np.meshgrid(np.linspace(-1.6, 2.4, 200), np.linspace(-1.4, 1.9, 200))
    ax.contour(x, y, np.abs(x + 1j * y - goal) ** 2, 9, colors=MUTED, linewidths=0.6)
    ax.plot(goal.real, goal.imag, "o", color=MUTED)
    for k, z in enumerate([-0.9 - 0.6j, 1.7 - 0.5j, -0.6 + 1.4j]):
        step = -0.2 * 2 * (z - goal)
        for move, paint, label in (
            (step, COLOURS[0][0], "-g: descends"),
            (step.conjugate(), COLOURS[1][0], "-conj(g): mirrored"),
        ):
            ax.quiver(
                z.real, z.imag, move.real, move.imag, angles="xy", scale_units="xy", scale=1,
                color=paint, width=0.008, label=None if k else label,
            )  # fmt: skip
        ax.plot(z.real, z.imag, "o", color="black", markersize=3)
    ax.set_aspect("equal")
    dress(ax, title="Steps from three points", xlabel="x, real part", ylabel="y, imaginary part")
    ax.legend(loc="upper right", frameon=True)
    file.write_bytes(plots.png(ax, dpi=120))


def _example(section: str) -> dict[str, Any]:
    """The names that a section of the page defines."""
    text = (HERE / "complex.md").read_text()
    code = text.split(f"## {section}", 1)[1].split("\n## ", 1)[0].split("```python\n")[1:]
    names: dict[str, Any] = {"np": np, "ss": ss}
    exec("".join(block.split("```", 1)[0] for block in code), names)
    return names


def phase_retrieval(file: Path) -> None:
    """The loss of the example on the page, and the signal that it finds."""
    names = _example("Phase retrieval")
    found, phase, signal = names["found"], names["phase"], names["signal"]
    left, right = _axes(2, 8.6)
    left.plot(found.history["step"], found.history["loss"], color=COLOURS[0][0])
    dress(left, title="Phase retrieval with Adam", xlabel="step", ylabel="loss")
    left.set_yscale("log")
    for values, style, label in (
        (signal, {"color": MUTED, "linewidth": 4}, "true"),
        (found.x * phase / abs(phase), {"color": COLOURS[0][0]}, "found"),
    ):
        right.plot(values.real, **style, label=f"{label}, real part")
        right.plot(values.imag, **style, linestyle=":", label=f"{label}, imaginary part")
    dress(right, title="The signal, up to one phase", xlabel="element", ylabel="")
    right.set_ylim(-1.15, 1.75)  # room for the legend above the curves
    right.legend(fontsize=8, ncols=2, loc="upper center")
    file.write_bytes(plots.png(left, dpi=120))


if __name__ == "__main__":
    convention(HERE / "images" / "complex-gradient.png")
    phase_retrieval(HERE / "images" / "phase-retrieval.png")
