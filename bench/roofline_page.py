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
OTHERS = ("stepsize", "torch", "DeepSpeed", "optax", "NumPy")


def page(report: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    machine, size = report["machine"], report["size"]
    triads = sorted(row["triad_gb_s"] for row in report["rules"])
    lines = [
        "# Roofline: how close each rule comes to the memory bandwidth",
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
    lines += ["", "## AdamW over sizes, ns/element, alternating runs", ""]
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
    style.dress(
        ax,
        title=f"Bandwidth of a step on {report['size'] / 1e6:g} M elements, beside a triad's",
        xlabel=f"% of the triad (shaded: {100 * GOAL:.0f} to 100)",
    )
    ax.grid(False, axis="y")
    ax.axvspan(100 * GOAL, 100, color=style.GRID, linewidth=0)
    edge = max(100 * rows[-1]["share"] + 16, 116)
    for k, row in enumerate(rows):
        line, _ = style.colour(row["passes"] - 1)
        share = 100 * row["share"]
        ax.plot([0, share], [k, k], color=line, linewidth=1.2, alpha=0.45, solid_capstyle="butt")
        ax.plot(share, k, "o", color=line, markersize=5)
        words = {"ha": "right", "va": "center", "fontsize": 7.5, "color": style.MUTED}
        ax.text(edge, k, f"{row['ns']:.2f}", **words)
    ax.text(edge, len(rows), "ns/element", **words)
    ax.set_yticks(range(len(rows)), [f"{row['rule']}  ({row['bytes']} B)" for row in rows])
    ax.tick_params(axis="y", labelsize=7.5, length=0)
    ax.set_ylim(-0.8, len(rows) + 0.7)
    ax.set_xlim(0, edge)
    for k, label in enumerate(("one pass over memory", "two passes")):
        ax.plot([], [], "o", color=style.colour(k)[0], markersize=5, label=label)
    _legend(ax, "upper left", ncols=2, borderpad=0.1, bbox_to_anchor=(0.0, 1.005))


def _draw_sizes(ax: Any, report: dict[str, Any]) -> None:
    rows = report["sizes"]
    for name, k in zip(OTHERS, (0, 1, 3, 2, 7), strict=True):
        points = [(row["size"], row[name]) for row in rows if name in row]
        if not points:
            continue
        line, _ = style.colour(k)
        ax.plot(*zip(*points, strict=True), "o-", color=line, markersize=4, label=name)
    style.dress(
        ax,
        title="AdamW over the size of one array",
        xlabel="elements",
        ylabel="ns per element",
        xscale="log",
        yscale="log",
    )
    _legend(ax, "upper right")


def _draw_threads(ax: Any, report: dict[str, Any]) -> None:
    rows = report["threads"]
    counts = [row["threads"] for row in rows]
    rules = [name for name in rows[0] if name not in ("threads", "triad")]
    for k, name in enumerate([*rules, "triad"]):
        line, _ = style.colour(7 if name == "triad" else (0, 4, 2)[k % 3])
        dashes = "o--" if name == "triad" else "o-"
        ax.plot(counts, [row[name] for row in rows], dashes, color=line, markersize=4, label=name)
    style.dress(ax, title="Bandwidth over threads", xlabel="threads", ylabel="GB/s")
    ax.set_xticks(counts)
    ax.set_ylim(bottom=0)
    _legend(ax, "lower right")


def _legend(ax: Any, place: str, **keywords: Any) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "framealpha": 1.0}
    ax.legend(loc=place, fontsize=8.5, labelcolor=style.INK, **box, **keywords)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    found = json.loads(source.read_text())
    source.with_suffix(".md").write_text(page(found))
    draw(found, source.with_suffix(".png"))
