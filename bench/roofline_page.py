"""The roofline page and its picture, made from what bench/roofline.py measured.

python bench/roofline_page.py bench/results/roofline.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stepsize.plots import style

GOAL = 0.95
OTHERS = ("stepsize", "torch", "optax", "NumPy")


def page(report: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    machine, size = report["machine"], report["size"]
    triads = sorted(row["triad_gb_s"] for row in report["rules"])
    lines = [
        "# Roofline: how near each rule comes to what memory allows",
        "",
        f"{report['date']}, {machine['processor']}, {report['threads_used']} threads, "
        f"{machine['target']}, {machine['compiler']}, commit {machine['commit']}, load "
        f"{machine['load']:.1f} at the end. `python bench/roofline.py` measures it anew.",
        "",
        "![Shares of the triad, and curves over sizes and threads](roofline.png)",
        "",
        f"One float32 array of {size:,} elements. *Bytes* are what a step must move for an "
        "element: the gradient read, parameter and state read and written; a state array that only "
        "the first step writes is read; rules of two passes read parameter and gradient once more. "
        "*Share* is the median, over neighbouring runs, of the bandwidth beside that of a triad, "
        "`x = x / 2 + y`, in C++ over arrays of the same length, with prefetching where that makes "
        f"it faster (median {triads[len(triads) // 2]:.0f} GB/s, from {triads[0]:.0f} to "
        f"{triads[-1]:.0f} between rules: other work runs on the machine). More than 100% is "
        "possible: the triad is one mix of reading and writing, and each rule another.",
        "",
        "| rule | passes | bytes | ns/element | GB/s | share of triad |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {row['rule']} | {row['passes']} | {row['bytes']} | {row['ns']:.3f} "
        f"| {row['gb_s']:.1f} | {row['share']:.0%} |"
        for row in sorted(report["rules"], key=lambda row: -row["share"])
    ]
    lines += ["", "## AdamW over sizes, ns/element, in turns", ""]
    names = [name for name in OTHERS if name in report["sizes"][0]]
    lines += ["| elements | " + " | ".join(names) + " |", "| --: |" + " --: |" * len(names)]
    for row in report["sizes"]:
        cells = " | ".join(f"{row[name]:.3g}" if name in row else "" for name in names)
        lines.append(f"| {row['size']:,} | {cells} |")
    lines += ["", "## Threads, GB/s", ""]
    kinds = [name for name in report["threads"][0] if name != "threads"]
    lines += ["| threads | " + " | ".join(kinds) + " |", "| --: |" + " --: |" * len(kinds)]
    for row in report["threads"]:
        cells = " | ".join(f"{row[name]:.1f}" for name in kinds)
        lines.append(f"| {row['threads']} | {cells} |")
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], path: Path) -> None:
    """Shares on the left, curves over sizes and threads on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 7.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1.0], wspace=0.06, hspace=0.08)
    _draw_shares(figure.add_subplot(grid[:, 0]), report)
    _draw_sizes(figure.add_subplot(grid[0, 1]), report)
    _draw_threads(figure.add_subplot(grid[1, 1]), report)
    figure.savefig(path)


def _draw_shares(ax: Any, report: dict[str, Any]) -> None:
    rows = sorted(report["rules"], key=lambda row: row["share"])
    style.dress(ax, title="Bandwidth of a step, as a share of a triad's", xlabel="% of the triad")
    ax.grid(False, axis="y")
    ax.axvspan(100 * GOAL, 100, color=style.GRID, alpha=0.6, linewidth=0)
    ax.axvline(100, color=style.MUTED, linewidth=1)
    for k, row in enumerate(rows):
        line, _ = style.colour(0 if row["passes"] == 1 else 1)
        share = 100 * row["share"]
        ax.plot([0, share], [k, k], color=line, linewidth=1.2, alpha=0.45, solid_capstyle="butt")
        ax.plot(share, k, "o", color=line, markersize=5)
        ax.annotate(
            f"{row['ns']:.2f} ns",
            (share, k),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            color=style.MUTED,
        )
    ax.set_yticks(range(len(rows)), [f"{row['rule']}  ({row['bytes']} B)" for row in rows])
    ax.tick_params(axis="y", labelsize=7.5, length=0)
    ax.set_ylim(-0.8, len(rows) - 0.2)
    ax.set_xlim(0, max(100 * rows[-1]["share"] + 14, 112))
    for k, words in enumerate(("one pass over memory", "two passes")):
        ax.plot([], [], "o", color=style.colour(k)[0], markersize=5, label=words)
    ax.legend(loc="lower right", frameon=False, fontsize=8)


def _draw_sizes(ax: Any, report: dict[str, Any]) -> None:
    rows = report["sizes"]
    lines = []
    for k, name in enumerate(name for name in OTHERS if name in rows[0]):
        points = [(row["size"], row[name]) for row in rows if name in row]
        line, text = style.colour((0, 1, 2, 7)[k])
        (drawn,) = ax.plot(*zip(*points, strict=True), "o-", color=line, markersize=3.5)
        lines.append((drawn, name, text))
    style.dress(
        ax,
        title="AdamW over the size of one array",
        xlabel="elements",
        ylabel="ns per element",
        xscale="log",
        yscale="log",
    )
    style.label_ends(ax, lines)


def _draw_threads(ax: Any, report: dict[str, Any]) -> None:
    rows = report["threads"]
    counts = [row["threads"] for row in rows]
    lines = []
    for k, name in enumerate(name for name in rows[0] if name != "threads"):
        line, text = style.colour(7 if name == "triad" else (0, 4, 2)[k % 3])
        dashes = "--" if name == "triad" else "-"
        values = [row[name] for row in rows]
        (drawn,) = ax.plot(counts, values, dashes, marker="o", color=line, markersize=3.5)
        lines.append((drawn, name, text))
    style.dress(ax, title="Bandwidth over threads", xlabel="threads", ylabel="GB/s")
    ax.set_xticks(counts)
    ax.set_ylim(bottom=0)
    style.label_ends(ax, lines)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    found = json.loads(source.read_text())
    source.with_suffix(".md").write_text(page(found))
    draw(found, source.with_suffix(".png"))
