"""A picture of a run that follows it: in the notebook, in a window or in a file."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsize.bars import in_notebook
from stepsize.serialization.atomic import replacing
from stepsize.serialization.replaceable import check_replaceable
from stepsize.validation import file_path, number

if TYPE_CHECKING:
    from stepsize.training.run import Run

__all__ = ["LivePlot"]

SHARE = 0.05  # of the time of a run that its pictures may take
FORMATS = (".png", ".svg", ".pdf")


class LivePlot:
    """Draw the run as it goes: loss and validation loss, other metrics, and the rate below.

    In a notebook one output is drawn anew; a script draws in a window, where matplotlib has one;
    with ``path`` the picture is also written to that file, whole at every moment. The last picture
    shows the whole run. A resumed run is drawn from its first step on. Drawing takes at most a
    twentieth of the time: where one picture takes long, the next one waits longer. A picture that
    fails is warned of, once, and the run goes on without pictures.

    Args:
        path: a file to write, ending in .png, .svg or .pdf; None writes none.
        every_seconds: the least time between two pictures.

    Attributes:
        drawn: pictures drawn so far.
        seconds: the time they took.

    Raises:
        ValueError: the path has another ending; or, when the run starts, there is no notebook, no
            window and no path.

    Example:
        >>> import os, tempfile, numpy as np, stepsize as ss
        >>> path = os.path.join(tempfile.mkdtemp(), "run.svg")
        >>> params, live = np.ones(2), ss.LivePlot(path)
        >>> history = ss.fit(lambda p, b: (float(p @ p), 2 * p), params, ss.SGD(params, lr=0.1),
        ...                  [None] * 20, epochs=1, callbacks=[live])
        >>> live.drawn, os.path.exists(path)
        (1, True)
    """

    first_rank_only = True  # of several processes that run together, the first one draws

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, every_seconds: float = 2.0
    ) -> None:
        try:
            import matplotlib  # noqa: F401 - before the run, not at its first picture
        except ImportError:
            raise ImportError('LivePlot needs matplotlib: pip install "stepsize[plot]"') from None
        self.path = None if path is None else Path(file_path("LivePlot: path", path))
        if self.path is not None and self.path.suffix.lower() not in FORMATS:
            raise ValueError(
                f"LivePlot: path must end in {', '.join(FORMATS)}, the format of the picture, got "
                f"{str(self.path)!r:.200}"
            )
        self.every_seconds = number("LivePlot: every_seconds", every_seconds, 0.0)
        self.drawn, self.seconds = 0, 0.0
        self._next = float("inf")
        self._targets: list[Callable[[Any], None]] = []

    def on_start(self, run: Run) -> None:
        """Find where to draw."""
        self._targets = []
        if in_notebook():
            self._targets.append(_notebook())
        elif self.path is None and (window := _window()) is not None:
            self._targets.append(window)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_replaceable("LivePlot", self.path, "picture")
            self._targets.append(_file(self.path))
        if not self._targets:
            raise ValueError(
                "LivePlot: this is no notebook and matplotlib opens no window here, so there is "
                'nowhere to draw; write a file: ss.LivePlot("run.png")'
            )
        self._next = time.perf_counter() + self.every_seconds

    def on_step(self, run: Run) -> None:
        """Draw if due."""
        if time.perf_counter() >= self._next:
            self._draw(run)

    def on_end(self, run: Run) -> None:
        """Draw the whole run, and let go of window and output."""
        if self._targets and run.history.steps:
            self._draw(run)
        self._targets, self._next = [], float("inf")

    def _draw(self, run: Run) -> None:
        from stepsize.report.runs import thinned

        begun = time.perf_counter()
        try:
            short = thinned(run.history)
            for target in self._targets:
                target(short)
            self.drawn += 1
        except Exception as error:  # no training is lost for its picture
            self._targets = []
            what = " ".join(str(error).split())[:300] or type(error).__name__
            warnings.warn(f"LivePlot: no more pictures of this run: {what}", stacklevel=2)
        took = time.perf_counter() - begun
        self.seconds += took
        pause = max(self.every_seconds, took * (1 / SHARE - 1))
        self._next = begun + took + pause if self._targets else float("inf")


def _notebook() -> Callable[[Any], None]:
    """Draws in one output of the cell that started the run."""
    from IPython.display import HTML, display

    from stepsize.report.runs import live

    handle = display(HTML("<p>no step yet</p>"), display_id=True)

    def draw(history: Any) -> None:
        handle.update(HTML(live(history)))

    return draw


def _window() -> Callable[[Any], None] | None:
    """Draws in a window, or None where matplotlib's backend has none.

    The window stays for the user; one that was closed is not opened again.
    """
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(7.0, 5.0), layout="constrained")
    if getattr(type(figure.canvas), "required_interactive_framework", None) is None:
        pyplot.close(figure)
        return None
    figure.show()

    def draw(history: Any) -> None:
        from stepsize import plots

        if not pyplot.fignum_exists(figure.number):
            return
        figure.clear()
        if _seen(history):
            plots.run_curves(history, figure.add_subplot())
        figure.canvas.draw_idle()
        figure.canvas.flush_events()  # without taking the focus, as pyplot.pause does

    return draw


def _file(path: Path) -> Callable[[Any], None]:
    """Draws into a file, which holds a whole picture at every moment."""

    def draw(history: Any) -> None:
        from stepsize import plots
        from stepsize.plots.style import offscreen

        if not _seen(history):
            return
        buffer = io.BytesIO()
        with offscreen():
            figure = plots.run_curves(history).figure
        figure.savefig(buffer, format=path.suffix.lower().lstrip("."), dpi=110)
        with replacing(path) as file:
            file.write(buffer.getvalue())

    return draw


def _seen(history: Any) -> bool:
    """Whether there is a finite loss to draw."""
    from stepsize.plots.views import series

    return len(series(history, "loss")[1]) > 0
