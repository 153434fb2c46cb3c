"""One look for every picture: colours, axes, labels beside their lines, and files.

A picture without axes given is drawn on a pyplot figure, as matplotlib's users expect: notebooks
show it, `plt.show()` and `plt.savefig()` find it. Reports draw inside `offscreen()`: their figures
belong to no window, and drawing changes no global state.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "COLOURS",
    "GRID",
    "INK",
    "MUTED",
    "dress",
    "label_ends",
    "new_axes",
    "png",
    "save",
    "svg",
]

INK, MUTED, GRID = "#1f2328", "#646c76", "#e3e6e9"

# Okabe and Ito's set, told apart by every common form of colour vision, without the yellow that
# vanishes on white. The second of each pair is the same hue, dark enough for text.
COLOURS = (
    ("#0072b2", "#005f94"),
    ("#d55e00", "#ab4b00"),
    ("#009e73", "#00734f"),
    ("#cc79a7", "#99487a"),
    ("#e69f00", "#8a6000"),
    ("#56b4e9", "#21759f"),
    (INK, INK),
    ("#8a8f96", MUTED),
)
_WIDTH, _HEIGHT, _TEXT = 4.4, 3.0, 10.0
_NAME = 40  # signs of a name beside a line: a longer one would leave no room for the picture


_OFFSCREEN: ContextVar[bool] = ContextVar("offscreen", default=False)
_NEEDED = 'pictures need matplotlib: pip install "stepsize[plot]"'


@contextlib.contextmanager
def offscreen() -> Iterator[None]:
    """Draw on figures that belong to no window: for reports, which make many."""
    token = _OFFSCREEN.set(True)
    try:
        yield
    finally:
        _OFFSCREEN.reset(token)


def own_axes(width: float = _WIDTH, height: float = _HEIGHT) -> Any:
    """Axes on a new pyplot figure, `width` x `height` inches; inside `offscreen` as `new_axes`."""
    if _OFFSCREEN.get():
        return new_axes(width, height)
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    return pyplot.figure(figsize=(width, height), dpi=150, layout="constrained").add_subplot()


def given_axes(ax: Any) -> Any:
    """The axes that were given to draw on; TypeError for what is none, such as a file's name."""
    if not hasattr(ax, "transAxes"):
        raise TypeError(
            f"ax must be matplotlib axes or None, got {ax!r:.80}; to write a file: "
            ".plot().figure.savefig('picture.png')"
        )
    return ax


def new_axes(width: float = _WIDTH, height: float = _HEIGHT) -> Any:
    """Axes on a figure of their own, `width` x `height` inches, that belongs to no window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def width_for(names: Iterable[str]) -> float:
    """Width in inches of a figure whose lines carry these names, so that long ones leave room."""
    longest = max((len(shortened(name)) for name in names), default=0)
    return _WIDTH + 0.075 * max(0, longest - 18)


def shortened(name: str, most: int = _NAME) -> str:
    """A name that fits beside a line: of a longer one its start and its end.

    >>> shortened("encoder/layers/11/kernel", 12)
    'encod…kernel'
    """
    if len(name) <= most:
        return name
    return f"{name[: (most - 1) // 2]}…{name[len(name) - most // 2 :]}"


def colour(index: int) -> tuple[str, str]:
    """Line and text colour number `index`; they repeat after eight."""
    return COLOURS[index % len(COLOURS)]


def dress(
    ax: Any,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    xscale: str = "linear",
    yscale: str = "linear",
) -> None:
    """Give axes the house look: two spines, a faint grid, plain numbers on logarithmic scales."""
    ax.set_xscale(xscale)
    ax.set_yscale(yscale)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
        spine.set_linewidth(0.8)
    ax.set_axisbelow(True)
    ax.grid(True, which="major", color=GRID, linewidth=0.8)
    ax.tick_params(which="both", color=MUTED, labelcolor=INK, labelsize=_TEXT - 1, width=0.8)
    ax.tick_params(which="minor", length=2)
    ax.set_xlabel(xlabel, color=INK, fontsize=_TEXT)
    ax.set_ylabel(shortened(ylabel), color=INK, fontsize=_TEXT)
    if title:
        ax.set_title(title, loc="left", color=INK, fontsize=_TEXT + 1, fontweight="bold")
    for axis, scale in ((ax.xaxis, xscale), (ax.yaxis, yscale)):
        if scale == "log":
            _plain_log(axis)
        else:
            _plain_linear(axis)
    if xlabel == "step" and xscale == "linear":
        ax.xaxis.get_major_locator().set_params(integer=True)


def number(value: float) -> str:
    """A short plain number: 0.001, 1e-5, 25,000; inf and nan as they are called."""
    if not math.isfinite(value):
        return f"{value:g}"
    if value and not 1e-4 <= abs(value) < 1e6:
        return power(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def power(value: float) -> str:
    """A number with a power of ten: 1e-3, 2.5e4."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _plain_log(axis: Any) -> None:
    """Label a logarithmic axis 0.001, 0.01, ...; within two decades also 2 and 5.

    Where one label needs a power of ten, all are written so.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if high > low > 0 else 1.0
    subs: Sequence[float] = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0)
    if decades < 0.8:
        subs = tuple(float(n) for n in range(1, 10))
    written = number if low >= 0.5e-4 and high < 1e6 else power
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain_linear(axis: Any) -> None:
    """Label a linear axis with whole values: no offset to be added, no power to be multiplied."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

    plain = ScalarFormatter(useOffset=False)
    plain.set_scientific(False)
    plain.set_axis(axis)

    def written(value: float, _: object) -> str:
        largest = float(np.abs(axis.get_view_interval()).max())
        if 1e-4 <= largest < 1e6:
            plain.set_locs(axis.get_majorticklocs())
            return str(plain(value))
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}" if value else "0"

    if isinstance(axis.get_major_formatter(), ScalarFormatter):
        axis.set_major_formatter(FuncFormatter(written))
    if axis.axis_name == "x" and max(map(abs, axis.get_view_interval())) >= 1e4:
        axis.set_major_locator(MaxNLocator(4))


def makes_room(ax: Any) -> bool:
    """Whether the figure's layout makes room for what stands outside of the axes."""
    if ax.get_subplotspec() is None:
        return False
    figure = ax.figure
    while figure.figure is not None and figure.figure is not figure:
        figure = figure.figure
    return figure.get_layout_engine() is not None


def label_ends(ax: Any, labels: Iterable[tuple[Any, str, str]]) -> None:
    """Write each line's name beside its last point, moving names apart where they would touch.

    `labels` holds (line, name, text colour). Call it last: names are placed for the limits as they
    are, which are then kept. On axes of others, whose figure makes no room beside them, the names
    are in a legend.
    """
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(ax.get_ylim())
    labels = list(labels)
    if not makes_room(ax):
        if len(labels) > 1 or any(name for _, name, _ in labels):
            key(ax, labels)
        return
    to_axes = ax.transData + ax.transAxes.inverted()
    placed: list[tuple[float, float, str, str]] = []
    for line, name, text_colour in labels:
        end = _last_seen(to_axes, line)
        if end is not None and name:
            placed.append((end[1], end[0], shortened(name), text_colour))
    if not placed:
        return
    placed.sort(key=lambda entry: entry[0])
    points = ax.figure.get_figheight() * 72 * min(0.75, ax.get_position().height)
    size = min(_TEXT, 0.95 * points / (1.15 * len(placed)))
    heights = _apart([entry[0] for entry in placed], 1.15 * size / points)
    for height, (end_height, x, name, text_colour) in zip(heights, placed, strict=True):
        # A line that ends early is named at the edge, where no other line runs through the name.
        far = 1.0 - x > 0.02 or abs(height - end_height) > 0.6 * size / points
        if far:
            ax.annotate(
                "", (x, end_height), xytext=(1.012, height), xycoords="axes fraction",
                textcoords="axes fraction", annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-", "color": text_colour, "linewidth": 0.9, "alpha": 0.7,
                    "linestyle": (0, (1, 2.5)), "shrinkA": 0, "shrinkB": 0,
                },
            )  # fmt: skip
        ax.annotate(
            name, (1.0, height), xycoords="axes fraction", xytext=(7 if far else 5, 0),
            textcoords="offset points", va="center", color=text_colour, fontsize=size,
            annotation_clip=False,
        )  # fmt: skip


def _last_seen(to_axes: Any, line: Any) -> tuple[float, float] | None:
    """Where a line is last inside the axes, or the nearest edge to where it ends."""
    xy = np.column_stack([np.asarray(v, float) for v in line.get_data()])
    xy = xy[np.isfinite(xy).all(axis=1)]
    if not len(xy):
        return None
    with np.errstate(all="ignore"):
        points = to_axes.transform(xy)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    inside = np.flatnonzero(((points >= -1e-9) & (points <= 1 + 1e-9)).all(axis=1))
    end = points[-1] if not len(inside) else points[min(inside[-1] + 1, len(points) - 1)]
    x, y = np.clip(end, 0.0, 1.0)
    return float(x), float(y)


def key(ax: Any, labels: Iterable[tuple[Any, str, str]]) -> None:
    """A legend: beside the axes where the figure makes room for it, else inside."""
    labels = [entry for entry in labels if entry[1]]
    beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    legend = ax.legend(
        [line for line, _, _ in labels],
        [shortened(name) for _, name, _ in labels],
        **(beside if makes_room(ax) else {"loc": "best"}),
        frameon=False,
        fontsize=9,
        handlelength=1.4,
    )
    for entry, (_, _, text) in zip(legend.get_texts(), labels, strict=True):
        entry.set_color(text)


def _apart(heights: list[float], gap: float) -> list[float]:
    """Sorted heights moved as little as needed to be `gap` apart and inside 0 .. 1."""
    result: list[float] = []
    for height in heights:
        result.append(max(height, result[-1] + gap) if result else height)
    excess = result[-1] - 1.0
    if excess > 0:
        result[-1] = 1.0
        for i in range(len(result) - 2, -1, -1):
            result[i] = min(result[i], result[i + 1] - gap)
    return result


def png(ax: Any, dpi: int = 150) -> bytes:
    """The axes' figure as PNG bytes on a white page."""
    buffer = io.BytesIO()
    # Without the software's version in it, the same numbers give the same file.
    ax.figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save(ax: Any, path: str | Path) -> Path:
    """Write the axes' figure to `path`; its ending (.png, .svg, .pdf) is the format."""
    path = Path(path)
    supported = ax.figure.canvas.get_supported_filetypes()
    ending = path.suffix.lower().lstrip(".")
    if ending not in supported:
        raise ValueError(f"cannot write a picture as {path.name!r}: end it with .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(path, dpi=150)
    return path


def svg(ax: Any, description: str = "") -> str:
    """The axes' figure as an SVG element for a web page, its colours named by CSS variables.

    `--ink`, `--muted`, `--grid`, `--paper`, `--c0` .. `--c5` (lines) and `--t0` .. `--t5` (text)
    are for the page to set, so that one picture suits light and dark pages.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "stepsize"}):
        ax.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{_escape(description)}" ', 1)
    text = re.sub(r"(font: [^;\"]*?|font-family: )'[^;\"]*", r"\1system-ui, sans-serif", text)
    names = {INK: "ink", MUTED: "muted", GRID: "grid", "#ffffff": "paper"}
    for index, (line, label) in enumerate(COLOURS[:6]):
        names |= {line: f"c{index}", label: f"t{index}"}
    for value, name in names.items():
        text = text.replace(value, f"var(--{name})")
    return text.strip()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
