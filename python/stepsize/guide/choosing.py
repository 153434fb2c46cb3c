"""Pages 18 to 20: which rate, for which batch and which data, and how to find it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import (
    Claim,
    Judgement,
    best_rate,
    column,
    share,
    spread,
    sweep,
    train,
    verdict_by_wins,
)
from stepsize.guide.models import data_set

Results = list[dict[str, Any]]
SIZES = (8, 16, 32, 64, 128, 256)
BATCH_RATES = np.geomspace(0.01, 3, 9)


def batches(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    rates = BATCH_RATES[::4] if quick else BATCH_RATES
    best = []
    for size in SIZES[::2] if quick else SIZES:
        scores = sweep(problem, ss.SGD, rates, epochs=1 if quick else 5, seed=seed, batch_size=size)
        best.append(best_rate(rates, scores["loss"]))
    return {"best": best}


def judge_batches(results: Results) -> Judgement:
    best = column(results, "best")
    sizes = np.array(SIZES if best.shape[1] == len(SIZES) else SIZES[::2], float)
    slopes = np.array([np.polyfit(np.log(sizes), np.log(row), 1)[0] for row in best])
    rises = slopes > 0.25
    middle = np.exp(np.log(best).mean(axis=0))
    start = float(middle[0])
    ax = plots.curves(
        sizes,
        {
            "best": best,
            "square root": start * np.sqrt(sizes / sizes[0]),
            "linear": start * sizes / sizes[0],
        },
        title="Best rate by batch size",
        xlabel="batch size",
        ylabel="best rate of the grid",
        xscale="log",
        yscale="log",
        marker="o",
    )
    nearer = "square-root" if abs(slopes.mean() - 0.5) < abs(slopes.mean() - 1) else "linear"
    return Judgement(
        verdict_by_wins(rises),
        "At equal epochs the best rate must rise with the batch size: slope of log rate against "
        "log size above 0.25, in four seeds of five. The square-root rule is a slope of 0.5, the "
        "linear rule a slope of 1.",
        f"The slope is {spread(slopes, '{:.2f}')}, nearer to the {nearer} rule; above 0.25 in "
        f"{share(rises)} seeds.",
        [(ax, "Both rules are drawn from the best rate at the smallest batch.")],
        ["batch size", "best rate"],
        [[f"{int(n)}", spread(best[:, i], "{:.2g}")] for i, n in enumerate(sizes)],
    )


SETS = ("digits", "wine", "breast_cancer", "iris")
FIND_RATES = np.geomspace(1e-3, 10, 13)


def find(problem: Any, rule: Any, seed: int) -> float:
    """The rate that the range test suggests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = ss.lr_find(
            problem.value_and_grad,
            problem.params,
            problem.batches(seed=seed),
            optimizer=rule,
            progress=False,
        )
    return float(result.suggestion)


def range_test(seed: int, quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SETS[:2] if quick else SETS:
        problem = data_set(name, seed)
        epochs = (3 if quick else 8) if name == "digits" else 30
        rate = find(problem, ss.SGD, seed)
        rates = FIND_RATES[::3] if quick else FIND_RATES
        scores = sweep(problem, ss.SGD, rates, epochs=epochs, seed=seed)
        ours = train(problem, ss.SGD, rate, epochs=epochs, seed=seed)
        found[name] = {
            "rate": rate,
            "accuracy": ours.accuracy,
            "best": max(scores["accuracy"]),
            "grid": scores["accuracy"],
        }
    return found


def judge_range_test(results: Results) -> Judgement:
    names = list(results[0])
    gap = np.array([[100 * (r[n]["best"] - r[n]["accuracy"]) for n in names] for r in results])
    near = gap <= 3
    rates = np.array([[r[n]["rate"] for n in names] for r in results])
    first = names[0]
    grid = 100 * np.array([r[first]["grid"] for r in results])
    ax = plots.curves(
        FIND_RATES if grid.shape[1] == len(FIND_RATES) else FIND_RATES[::3],
        {"": grid},
        title=f"{first.replace('_', ' ').capitalize()}: accuracy by rate",
        xlabel="learning rate",
        ylabel="held-out accuracy, %",
        xscale="log",
        marker="o",
    )
    for rate in rates[:, 0]:
        ax.axvline(rate, color="#d55e00", linewidth=1, alpha=0.7)
    dots = plots.comparison(
        {n.replace("_", " "): gap[:, i] for i, n in enumerate(names)},
        title="Points behind the best of the grid",
        xlabel="points of accuracy, 0 or below is as good",
        form="{:.1f}",
    )
    return Judgement(
        verdict_by_wins(near),
        "Trained at the suggested rate, the network must come within 3 points of the best accuracy "
        f"of a grid of {len(FIND_RATES)} rates, in four of five cases over data sets and seeds.",
        f"{share(near)} runs come within 3 points; the gap is "
        f"{spread(gap.mean(axis=1), '{:.1f}')} points on average.",
        [
            (ax, "Lines: the rate that each seed's range test suggested."),
            (dots, "The grid's best is picked by the same held-out rows, which flatters it."),
        ],
        ["data", "suggested rate", "points behind"],
        [
            [n.replace("_", " "), spread(rates[:, i], "{:.2g}"), spread(gap[:, i], "{:.1f}")]
            for i, n in enumerate(names)
        ],
    )


ROWS = (64, 128, 256, 512, 1348)


def subset(seed: int, quick: bool) -> dict[str, Any]:
    rows = ROWS[::2] if quick else ROWS
    return {"rates": [find(ss.problems.digits(seed, rows=n), ss.SGD, seed) for n in rows]}


def judge_subset(results: Results) -> Judgement:
    rates = column(results, "rates")
    rows = ROWS if rates.shape[1] == len(ROWS) else ROWS[::2]
    ratio = rates[:, :-1] / rates[:, -1:]
    near = np.abs(np.log(ratio)) < np.log(3)
    ax = plots.curves(
        rows,
        {"": rates},
        title="Suggested rate by amount of data",
        xlabel="images",
        ylabel="suggested rate",
        xscale="log",
        yscale="log",
        marker="o",
    )
    return Judgement(
        verdict_by_wins(near),
        "The rate found on a part of the data must be within a factor of 3 of the rate found on "
        "all of it, in four of five cases over sizes and seeds.",
        f"On {rows[0]} images the ratio is {spread(ratio[:, 0], '{:.2f}')}; {share(near)} parts "
        "come within a factor of 3.",
        [(ax, "Median and range of the seeds.")],
        ["images", "suggested rate"],
        [[f"{n:,}", spread(rates[:, i], "{:.2g}")] for i, n in enumerate(rows)],
    )


PAGES = [
    Claim(
        "batch-size",
        "Larger batches carry larger rates",
        "A larger batch gives a cleaner gradient and fewer steps per epoch. The rate should grow "
        "with it, linearly say some, with the square root say others. "
        "Here the best rate is searched for each size, at equal epochs.",
        batches,
        judge_batches,
        ("SGD",),
    ),
    Claim(
        "range-test",
        "The range test finds the useful rate",
        "One short run with a rising rate, and short races after it, are to replace a search. The "
        "test of that is a search. "
        "Four data sets, and for each a grid of whole trainings.",
        range_test,
        judge_range_test,
        ("SGD", "range test"),
    ),
    Claim(
        "subset",
        "A small part of the data finds nearly the same rate",
        "The rate depends on how the loss bends, and a part of the data bends it much the same "
        "way. If so, the search can be done on a few per cent. "
        "The range test is run on parts of the digits, down to 64 images.",
        subset,
        judge_subset,
        ("range test", "subset test"),
    ),
]
