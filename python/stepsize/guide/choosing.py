"""Pages 18 to 23: which rate, for which batch, data, network and rule."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import (
    Claim,
    Finding,
    best_rate,
    column,
    graded,
    picked,
    share,
    spread,
    sweep,
    train,
    verdict_by_wins,
)
from stepsize.guide.models import data_set
from stepsize.plots.style import number

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


def judge_batches(results: Results) -> Finding:
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
    return Finding(
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


def judge_range_test(results: Results) -> Finding:
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
    return Finding(
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


def judge_subset(results: Results) -> Finding:
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
    return Finding(
        verdict_by_wins(near),
        "The rate found on a part of the data must be within a factor of 3 of the rate found on "
        "all of it, in four of five cases over sizes and seeds.",
        f"On {rows[0]} images the ratio is {spread(ratio[:, 0], '{:.2f}')}; {share(near)} parts "
        "come within a factor of 3.",
        [(ax, "Median and range of the seeds.")],
        ["images", "suggested rate"],
        [[f"{n:,}", spread(rates[:, i], "{:.2g}")] for i, n in enumerate(rows)],
    )


PLATEAU_RATES = (0.1, 0.3, 1.0)


def plateau(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    rates = PLATEAU_RATES[:2] if quick else PLATEAU_RATES
    epochs = 3 if quick else 12
    steps = epochs * 85
    found: dict[str, Any] = {"rates": rates, "watched": []}
    for name, plan in {
        "constant": ss.schedules.constant,
        "fixed plan": lambda lr: ss.schedules.step_decay(lr, steps // 3, 0.2),
    }.items():
        scores = sweep(problem, ss.SGD, rates, epochs=epochs, seed=seed, plan=plan, batch_size=16)
        found[name] = scores["loss"]
    for lr in rates:
        watch = ss.ReduceOnPlateau(monitor="val_loss", factor=0.2, patience=2)
        run = train(
            problem,
            ss.SGD,
            lr,
            epochs=epochs,
            seed=seed,
            batch_size=16,
            validation=problem.validation,
            callbacks=(watch,),
        )
        found["watched"].append(run.loss)
        found["lr"] = run.history["lr"]
    return found


def judge_plateau(results: Results) -> Finding:
    names = {"constant": "constant", "fixed plan": "fixed plan", "watched": "validation-driven"}
    chosen = {name: picked(column(results, name)) for name in names}
    as_good = chosen["watched"][1] <= 1.02 * chosen["fixed plan"][1]
    better = chosen["watched"][1] < chosen["constant"][1]
    dots = plots.comparison(
        {names[n]: losses for n, (_, losses) in chosen.items()},
        title="Each at its best rate",
        xlabel="held-out loss, lower is better",
        form="{:.3f}",
    )
    steps = np.arange(len(results[0]["lr"]))
    shape = plots.curves(
        steps,
        {f"seed {i}": r["lr"] for i, r in enumerate(results[:3])},
        title="What watching decided",
        xlabel="step",
        ylabel="rate",
        yscale="log",
    )
    return Finding(
        graded(as_good.mean() >= 0.8, better.mean() >= 0.8),
        "Reducing the rate when the validation loss stalls must end within 2 % of, or below, the "
        "held-out loss of a fixed plan of steps, each at its best rate, in four seeds of five. If "
        "it only beats the constant rate it holds under the condition that no plan is known.",
        f"Validation-driven: {spread(chosen['watched'][1], '{:.3f}')}. Fixed plan: "
        f"{spread(chosen['fixed plan'][1], '{:.3f}')}. Constant: "
        f"{spread(chosen['constant'][1], '{:.3f}')}. As good as the plan in {share(as_good)}.",
        [(dots, "The same network, steps and rates."), (shape, "Rates at the highest start.")],
        ["schedule", "best rate", "held-out loss"],
        [
            [names[n], number(results[0]["rates"][i]), spread(v, "{:.3f}")]
            for n, (i, v) in chosen.items()
        ],
    )


ALL_RATES = np.geomspace(1e-4, 10, 11)
RULES: dict[str, Any] = {
    "SGD": ss.SGD,
    "momentum": partial(ss.SGD, momentum=0.9),
    "RMSprop": ss.RMSprop,
    "Adam": ss.Adam,
}
NETWORKS: dict[str, tuple[int, ...]] = {"linear": (), "one layer": (32,), "two layers": (32, 32)}


def no_rate_fits_all(seed: int, quick: bool) -> dict[str, Any]:
    rates = ALL_RATES[::3] if quick else ALL_RATES
    tables = {}
    for data in ("wine", "digits") if quick else ("wine", "breast_cancer", "digits"):
        for network, hidden in NETWORKS.items():
            problem = data_set(data, seed, hidden)
            epochs = (1 if quick else 2) if data == "digits" else 6
            for name, rule in RULES.items():
                scores = sweep(problem, rule, rates, epochs=epochs, seed=seed)
                tables[f"{data.replace('_', ' ')}, {network}, {name}"] = scores["loss"]
    return tables


def judge_no_rate_fits_all(results: Results) -> Finding:
    cases = list(results[0])
    loss = np.array([[r[case] for case in cases] for r in results], float)
    rates = ALL_RATES if loss.shape[2] == len(ALL_RATES) else ALL_RATES[::3]
    kept = np.where(np.isfinite(loss), loss, np.inf)
    best = rates[kept.argmin(axis=2)]
    range_ = best.max(axis=1) / best.min(axis=1)
    # A rate fits a case if its loss there is no more than 1.5 times that of the case's best.
    fits = kept <= 1.5 * kept.min(axis=2, keepdims=True)
    most = fits.mean(axis=1).max(axis=1)
    ok = (range_ >= 10) & (most < 1)
    rows = {}
    for name in RULES:
        here = [i for i, case in enumerate(cases) if case.endswith(f", {name}")]
        rows[name] = np.exp(np.log(best[:, here]).mean(axis=0))
    groups = [case.rsplit(", ", 1)[0] for case in cases if case.endswith(", SGD")]
    ax = plots.comparison(
        rows,
        title="Best rates, one dot per data set and network",
        xlabel="best rate (mean of the seeds)",
        xscale="log",
        form="{:.2g}",
    )
    return Finding(
        verdict_by_wins(ok),
        "Over data sets, networks and rules the best rates must differ by a factor of 10 or more, "
        "and no rate of the grid may come within 1.5 times the best loss in every case; in four "
        "seeds of five.",
        f"The best rates differ by a factor of {spread(range_, '{:.0f}')}. The rate that fits most "
        f"cases fits {spread(100 * most, '{:.0f}')} % of {len(cases)}.",
        [(ax, f"{len(groups)} cases for each rule.")],
        ["data and network", *RULES],
        [
            [group, *(number(float(f"{rows[name][i]:.2g}")) for name in RULES)]
            for i, group in enumerate(groups)
        ],
    )


REGULAR_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


class StopAtLoss:
    """Ends the run once the running training loss is below a level."""

    def __init__(self, level: float) -> None:
        self.level, self.average = level, 3.0

    def on_step(self, run: Any) -> None:
        """Follow the loss of the latest step."""
        self.average += 0.05 * (run.history.last("loss") - self.average)
        if self.average < self.level:
            run.stop("the loss is low enough")


def regularise(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed, rows=150)
    found: dict[str, Any] = {"accuracy": [], "train_loss": []}
    for lr in REGULAR_RATES[2:4] if quick else REGULAR_RATES:
        run = train(
            problem,
            ss.SGD,
            lr,
            epochs=30 if quick else 400,
            seed=seed,
            batch_size=8,
            callbacks=(StopAtLoss(0.2 if quick else 0.03),),
        )
        found["accuracy"].append(run.accuracy)
        found["train_loss"].append(run.train_loss)
    return found


def judge_regularise(results: Results) -> Finding:
    accuracy = 100 * column(results, "accuracy")
    rates = REGULAR_RATES if accuracy.shape[1] == len(REGULAR_RATES) else REGULAR_RATES[2:4]
    gain = accuracy[:, -2] - accuracy[:, 0]
    high, low = gain > 0, gain < 0
    ax = plots.curves(
        rates,
        {"": accuracy},
        title="Accuracy at equal training loss",
        xlabel="learning rate",
        ylabel="held-out accuracy, %",
        xscale="log",
        marker="o",
    )
    return Finding(
        verdict_by_wins(high),
        "Trained on 150 images to the same training loss, the network must generalise better at "
        "the second-highest rate than at the lowest, in four seeds of five.",
        f"The higher rate gains {spread(gain, '{:+.1f}')} points: better in {share(high)} seeds, "
        f"worse in {share(low)}.",
        [(ax, "Every run is stopped when its running training loss falls below the same level.")],
        ["rate", "held-out accuracy, %"],
        [[f"{r:g}", spread(accuracy[:, i], "{:.1f}")] for i, r in enumerate(rates)],
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
    Claim(
        "plateau",
        "Watching the validation loss replaces a plan",
        "A plan must know in advance when to lower the rate. Watching the validation loss lowers "
        "it when progress stalls. "
        "Both cut the rate to a fifth; they differ in when.",
        plateau,
        judge_plateau,
        ("SGD", "plateau", "step decay"),
    ),
    Claim(
        "no-rate-fits-all",
        "No rate fits all",
        "A rate belongs to its data, its network and its rule. Move one and the best rate moves. "
        "Here are the best rates for every combination of three data sets, three networks and "
        "four rules.",
        no_rate_fits_all,
        judge_no_rate_fits_all,
        ("SGD", "momentum", "RMSprop", "Adam"),
    ),
    Claim(
        "regularise",
        "A high rate regularises",
        "Some say low rates generalise better, others that high rates do, for their noise avoids "
        "sharp minima. To tell, every run must fit its training data equally well. "
        "Each is therefore stopped at the same training loss.",
        regularise,
        judge_regularise,
        ("SGD",),
    ),
]
