"""Pages 21 to 23: plans that watch, rates that travel, and rates that regularise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import (
    Claim,
    Judgement,
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


def judge_plateau(results: Results) -> Judgement:
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
    return Judgement(
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


def judge_no_rate_fits_all(results: Results) -> Judgement:
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
        title="Best rates of each rule",
        xlabel="best rate (mean of the seeds)",
        xscale="log",
        form="{:.2g}",
    )
    return Judgement(
        verdict_by_wins(ok),
        "Over data sets, networks and rules the best rates must differ by a factor of 10 or more, "
        "and no rate of the grid may come within 1.5 times the best loss in every case; in four "
        "seeds of five.",
        f"The best rates differ by a factor of {spread(range_, '{:.0f}')}. The rate that fits most "
        f"cases fits {spread(100 * most, '{:.0f}')} % of {len(cases)}.",
        [(ax, f"One dot for each of {len(groups)} pairs of data set and network.")],
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


def judge_regularise(results: Results) -> Judgement:
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
    return Judgement(
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
