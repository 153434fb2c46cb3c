"""What the stories of the gallery share as the site is built: look, order, who can run."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from stepsize import set_num_threads
from stepsize.plots.style import COLOURS, GRID, INK, MUTED

STORIES = Path(__file__).parent / "gallery"

# As they are told: a first network, its rate, inverse problems, statistics, other libraries, long
# runs.
ORDER = (
    "digits",
    "what_if",
    "deconvolution",
    "phase_retrieval",
    "bounded_fit",
    "physics_informed",
    "gaussian_process",
    "matrix_factorisation",
    "sklearn_pipeline",
    "torch_finetuning",
    "dask_sweep",
    "resume_after_kill",
    "own_rule",
)

# Libraries that are large, or for few: without them a story is shown and not run.
LARGE = ("torch", "distributed")


def place(file: str) -> int:
    """The place of a story's file among all."""
    return ORDER.index(Path(file).stem.removeprefix("plot_"))


def missing(source: str) -> list[str]:
    """The large libraries that a story imports and that are not installed."""
    used = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE))
    return [name for name in LARGE if name in used and importlib.util.find_spec(name) is None]


def left_out() -> list[str]:
    """The stories that cannot run here."""
    files = sorted(STORIES.glob("plot_*.py"))
    return [path.stem for path in files if missing(path.read_text("utf-8"))]


def runnable() -> str:
    """A pattern of the files of the stories that can run here."""
    names = {path.stem for path in STORIES.glob("plot_*.py")} - set(left_out())
    return rf"(?:{'|'.join(sorted(names))})\.py$"


def reset(conf: dict[str, Any], file: str, when: str = "before") -> None:
    """Start each story alike; what was set for it is taken back by sphinx-gallery's own reset."""
    import matplotlib

    if when == "after":
        return
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")  # who came and went is no story
    set_num_threads(None)
    matplotlib.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.edgecolor": MUTED,
            "axes.grid": True,
            "axes.grid.which": "major",
            "axes.labelcolor": INK,
            "axes.linewidth": 0.8,
            "axes.prop_cycle": matplotlib.cycler(color=[line for line, _ in COLOURS]),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "figure.constrained_layout.h_pad": 0.08,
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.w_pad": 0.08,
            "figure.dpi": 100,
            "font.size": 10,
            "grid.color": GRID,
            "image.cmap": "viridis",
            "legend.frameon": False,
            "legend.fontsize": 9,
            "savefig.dpi": 150,
            "xtick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.color": MUTED,
            "ytick.labelcolor": INK,
        }
    )
