"""Two pages beside the claims: the paths of the rules, and where to start."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import CONDITION, FAILS, HOLDS, Result
from stepsize.plots.style import number
from stepsize.report import Page

__all__ = ["paths_page", "start_page"]

LANDSCAPES: dict[str, tuple[Any, tuple[float, float], tuple[float, float]]] = {
    "Rosenbrock": (ss.problems.rosenbrock, (-2.0, 2.0), (-1.0, 3.0)),
    "saddle": (ss.problems.saddle, (-1.5, 1.5), (-1.5, 1.5)),
    "Beale": (ss.problems.beale, (-2.0, 4.2), (-1.5, 2.5)),
    "Himmelblau": (ss.problems.himmelblau, (-5.0, 5.0), (-5.0, 5.0)),
    "Rastrigin": (ss.problems.rastrigin, (-3.5, 3.5), (-3.5, 3.5)),
}
SHOWN: dict[str, Any] = {
    "SGD": ss.SGD,
    "momentum": partial(ss.SGD, momentum=0.9),
    "Adagrad": ss.Adagrad,
    "RMSprop": ss.RMSprop,
    "Adam": ss.Adam,
}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
STEPS = 300


def walk(make: Any, rule: Any, lr: float | None, steps: int) -> Any:
    """The points a rule visits; it stops where the landscape runs out of numbers."""
    problem = make()
    path = [problem.params.copy()]
    optimizer = rule(problem.params, lr=lr)
    for _ in range(steps):
        loss, grad = problem.value_and_grad(problem.params, None)
        if not (np.isfinite(loss) and np.isfinite(grad).all() and np.abs(grad).max() < 1e12):
            break
        optimizer.step(grad, loss=loss)
        path.append(problem.params.copy())
    return np.array(path)


def best_walk(make: Any, rule: Any, steps: int, window: Any = None) -> tuple[float, float, Any]:
    """The walk that ends lowest over the rates: its rate, its height, and its points.

    With a `window` (lowest and highest corner) walks that never leave it are preferred.
    """
    walks = [(lr, walk(make, rule, lr, steps)) for lr in RATES]
    if window is not None:
        low, high = window
        inside = [w for w in walks if ((w[1] >= low) & (w[1] <= high)).all()]
        walks = inside or walks
    value = make().value_and_grad.value

    def height(path: Any) -> float:
        last = float(value(*path[-1])) if np.abs(path[-1]).max() < 1e6 else np.inf
        return last if len(path) > steps else np.inf

    lr, path = min(walks, key=lambda pair: height(pair[1]))
    return lr, height(path), path


def paths_page(quick: bool) -> Page:
    """Five landscapes, the rules' paths on them, one of them moving, and every rule in a table."""
    steps = 60 if quick else STEPS
    page = Page(
        "Paths over five landscapes",
        f"Each rule takes {steps} steps at the best of {len(RATES)} rates that keep it in the "
        "picture. Rings: starts. Crosses: minima.",
    )
    page.raw('<p class="note"><a href="index.html">The guide</a></p>')
    figures = []
    for name, (make, xlim, ylim) in LANDSCAPES.items():
        paths, words = {}, []
        for rule_name, rule in SHOWN.items():
            window = (np.array([xlim[0], ylim[0]]), np.array([xlim[1], ylim[1]]))
            lr, height, paths[rule_name] = best_walk(make, rule, steps, window)
            words.append(f"{rule_name} {number(lr)} ends at {height:.2g}")
        ax = plots.landscape(make(), paths, title=name, xlim=xlim, ylim=ylim)
        drawing = plots.svg(ax, name)
        if name == "Himmelblau":
            drawing = moving(drawing, ax, paths)
        figures.append((drawing, f"{name}: {'; '.join(words)}."))
    page.figures(figures)
    page.note("On Himmelblau's landscape the dots move, one step of each rule in the same time.")
    page.heading("Every rule")
    page.text("The height each rule of the package reaches in the same steps, at its best rate.")
    page.table(["rule", *LANDSCAPES], _heights(steps, quick))
    return page


def _heights(steps: int, quick: bool) -> list[list[str]]:
    rows = []
    rules = sorted(ss.optimizers.registry(), key=lambda cls: cls.__name__.lower())
    for rule in rules[:4] if quick else rules:
        row = [rule.__name__]
        for make, _, _ in LANDSCAPES.values():
            try:
                _, height, _ = best_walk(make, rule, steps)
                row.append(f"{height:.2g}")
            except (TypeError, ValueError):
                # Rules for matrices have nothing to say about a point of two numbers.
                row.append("not for two numbers")
        rows.append(row)
    return rows


def moving(drawing: str, ax: Any, paths: dict[str, Any]) -> str:
    """The same picture with a dot that walks each path, one step per tick of the same clock."""
    figure = ax.figure
    height = figure.get_figheight() * 72
    dots = []
    for index, path in enumerate(paths.values()):
        points = ax.transData.transform(path) * 72 / figure.dpi
        track = "L".join(f"{x:.1f},{height - y:.1f}" for x, y in points)
        dots.append(
            f'<circle class="moving" r="4" fill="var(--c{index})" stroke="var(--paper)">'
            f'<animateMotion dur="12s" repeatCount="indefinite" calcMode="linear" '
            f'path="M{track}"/></circle>'
        )
    return drawing.replace("</svg>", "".join(dots) + "</svg>")


START = (
    (
        "I do not know the rate",
        "range-test",
        "`ss.lr_find`, then train at its suggestion",
        "a grid of rates by tens, then by threes",
    ),
    (
        "The search is too dear",
        "subset",
        "`ss.lr_find` on a few per cent of the data",
        "`ss.lr_find` on all of it: parts mislead",
    ),
    (
        "Which schedule?",
        "smooth-decays",
        "cosine to zero over the whole run",
        "try a constant first",
    ),
    (
        "I cannot say how long I will train",
        "plateau",
        "constant, with `ss.ReduceOnPlateau` on the validation loss",
        "constant, and decay by hand when it stalls",
    ),
    (
        "A deep network that diverges early",
        "warm-up",
        "warm-up over the first epoch",
        "a lower rate; warm-up alone will not save it",
    ),
    ("Text, or other sparse signals", "text", "Adam or AdamW", "Adam, but try SGD with momentum"),
    ("Rare features, linear model", "rare-features", "Adagrad", "SGD"),
    (
        "No time to tune at all",
        "width",
        "Adam: its interval of good rates is wide",
        "Adam or RMSprop at the found rate",
    ),
    (
        "I change the batch size",
        "batch-size",
        "move the rate with it: `ss.scale_lr(..., rule='sqrt')`, then find again",
        "find the rate again",
    ),
    (
        "I change momentum",
        "momentum",
        "keep rate / (1 - momentum) constant",
        "find the rate again",
    ),
    ("It overfits", "regularise", "a higher rate", "not the rate: more data, decay, or stop early"),
)


def start_page(results: list[Result]) -> Page:
    """What to start with, each line chosen by the verdict of the experiment beside it."""
    found = {result.claim.name: result for result in results}
    page = Page(
        "Which rate, schedule and rule should I start with?",
        "Each answer follows from an experiment of the guide: had it come out otherwise, this "
        "table would say otherwise.",
    )
    page.raw('<p class="note"><a href="index.html">The guide</a></p>')
    rows = []
    for question, name, advice, otherwise in START:
        if name in found:
            verdict = found[name].finding.verdict
            rows.append((question, otherwise if verdict == FAILS else advice, found[name]))
    page.raw(_start_table(rows))
    return page


def _start_table(rows: list[tuple[str, str, Result]]) -> str:
    from stepsize.report.page import inline

    tones = {HOLDS: "good", CONDITION: "fair", FAILS: "bad"}
    cells = [
        f'<tr><td class="words">{inline(question)}</td><td class="words">{inline(advice)}</td>'
        f'<td class="words"><a href="{r.claim.name}.html">{inline(r.claim.title)}</a> '
        f'<span class="mark {tones[r.finding.verdict]}">{r.finding.verdict}</span></td></tr>'
        for question, advice, r in rows
    ]
    head = "".join(
        f'<th class="words">{word}</th>' for word in ("Question", "Start with", "Because")
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(cells)}</tbody></table></div>"
    )
