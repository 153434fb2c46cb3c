"""Pages 24 to 27: judging runs, searching rates, rules that need none, and the whole map."""

from __future__ import annotations

from dataclasses import replace
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
from stepsize.plots.style import number

Results = list[dict[str, Any]]
EXPECTED = {
    "overfitting": ("overfitting",),
    "underfitting": ("underfitting",),
    "too low": ("too_low",),
    "too high": ("too_high", "diverging"),
    "sound": ("healthy", "converged"),
}


def curves(seed: int, quick: bool) -> dict[str, Any]:
    plain = ss.problems.digits(seed)
    x, labels = plain.train
    rng = np.random.default_rng(seed)
    # 200 images of which three in ten have a random label: only memory can fit those.
    noisy = np.where(rng.random(200) < 0.3, rng.integers(0, 10, 200), labels[:200])
    few = replace(ss.problems.digits(seed, hidden=(64,)), train=(x[:200], noisy))
    # One pixel of 64 cannot tell ten digits apart, whatever the rate.
    pixel = ss.problems.classifier(x[:, [20]], labels, hidden=(), seed=seed)
    length = 0.5 if quick else 1.0
    runs = {
        "overfitting": (few, 0.5, 150),
        "underfitting": (pixel, 1.0, 40),
        "too low": (plain, 0.001, 20),
        "too high": (plain, 20.0, 20),
        "sound": (plain, 0.2, 20),
    }
    found: dict[str, Any] = {}
    for name, (problem, lr, epochs) in runs.items():
        run = train(
            problem,
            ss.SGD,
            lr,
            epochs=max(1, int(length * epochs)),
            seed=seed,
            batch_size=16 if name == "overfitting" else 32,
            validation=problem.validation,
            evaluate=problem.evaluate,
        )
        found[name] = ss.diagnose(run.history).verdict
        found[f"{name} curve"] = {k: run.history[k] for k in ("step", "loss", "val_loss")}
    return found


def judge_curves(results: Results) -> Judgement:
    right = {
        name: np.array([r[name] in verdicts for r in results])
        for name, verdicts in EXPECTED.items()
    }
    fits = np.mean([right["overfitting"], right["underfitting"]], axis=0)
    everything = np.mean(list(right.values()), axis=0)
    figures = [
        (
            plots.learning_curves(results[0][f"{name} curve"], title=f"Meant: {name}"),
            f"Diagnosed: {results[0][name].replace('_', ' ')}.",
        )
        for name in EXPECTED
    ]
    return Judgement(
        graded(everything.mean() >= 0.8 and fits.mean() >= 0.8, everything.mean() >= 0.8),
        "Each run was made to go wrong in one way. From the curves alone the diagnosis must name "
        "over- and underfitting in four of five cases, and all five kinds in four of five. With "
        "the second alone it holds under the condition of trouble that shows in the loss.",
        f"All kinds: {share(np.array(list(right.values())))} right; over- and underfitting: "
        f"{share(np.array([right['overfitting'], right['underfitting']]))}.",
        figures,
        ["run", "diagnosed as meant", "diagnoses"],
        [
            [name, share(won), ", ".join(sorted({r[name].replace("_", " ") for r in results}))]
            for name, won in right.items()
        ],
    )


METHODS = ("grid", "random", "tpe", "lr")
TRIALS = 12


def tuning(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    space = {"lr": ss.LogUniform(1e-4, 10.0)}

    def objective(point: dict[str, Any]) -> float:
        return train(problem, ss.SGD, point["lr"], epochs=1 if quick else 3, seed=seed).loss

    found: dict[str, Any] = {}
    for method in METHODS:
        trials = 5 if quick else TRIALS
        result = ss.tune(
            objective,
            space,
            trials=trials,
            method=method,
            seed=seed,
            on_error="raise",
            progress=False,
        )
        if result.stopped:
            raise KeyboardInterrupt
        found[method] = [trial.value for trial in result.trials]
    return found


def judge_tuning(results: Results) -> Judgement:
    best = {m: np.minimum.accumulate(np.minimum(column(results, m), 1e3), axis=1) for m in METHODS}
    reference = np.min([table[:, -1] for table in best.values()], axis=0)
    needed = {
        m: np.array(
            [
                1 + int(np.argmax(row <= 1.1 * low)) if (row <= 1.1 * low).any() else np.nan
                for row, low in zip(table, reference, strict=True)
            ]
        )
        for m, table in best.items()
    }
    ours = {m: np.where(np.isfinite(needed[m]), needed[m], 99) for m in METHODS}
    won = {m: ours[m] < ours["grid"] for m in ("random", "tpe", "lr")}
    agree = [np.mean(w) >= 0.8 for w in won.values()]
    words = {"grid": "grid", "random": "random", "tpe": "TPE", "lr": "rate bracket"}
    epochs_of = 126
    ax = plots.curves(
        epochs_of * np.arange(1, best["grid"].shape[1] + 1),
        {words[m]: table for m, table in best.items()},
        title="Best loss so far",
        xlabel="gradient evaluations",
        ylabel="best held-out loss so far",
        yscale="log",
    )
    dots = plots.comparison(
        {words[m]: needed[m] for m in METHODS},
        title="Runs until within 10 % of the best",
        xlabel="runs, fewer is better",
        lost="did not",
        form="{:.1f}",
    )
    return Judgement(
        graded(all(agree), any(agree)),
        "Every automated method must come within 10 % of the best loss that any of them found in "
        "fewer runs than the grid, in four seeds of five; if only some do, it holds under the "
        "condition of the method.",
        "Fewer runs than the grid: "
        + ", ".join(f"{words[m]} in {share(w)}" for m, w in won.items())
        + ".",
        [
            (ax, "Every run costs the same number of gradients."),
            (dots, "Seeds that never came so near are counted in words."),
        ],
        ["method", "runs needed", "best loss"],
        [[words[m], spread(needed[m], "{:.1f}"), spread(best[m][:, -1])] for m in METHODS],
    )


MAP_RATES, MAP_EPOCHS = np.geomspace(1e-3, 3, 12), (1, 2, 4, 8, 16)


def rate_and_steps(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    rates = MAP_RATES[::4] if quick else MAP_RATES
    tables = [
        sweep(problem, ss.SGD, rates, epochs=epochs, seed=seed)["train_loss"]
        for epochs in (MAP_EPOCHS[:2] if quick else MAP_EPOCHS)
    ]
    return {"loss": tables}


def judge_rate_and_steps(results: Results) -> Judgement:
    loss = column(results, "loss")
    rates = MAP_RATES if loss.shape[2] == len(MAP_RATES) else MAP_RATES[::4]
    epochs = MAP_EPOCHS[: loss.shape[1]]
    kept = np.where(np.isfinite(loss), loss, np.inf)
    best = rates[kept.argmin(axis=2)]
    widths = (kept <= 2 * kept.min(axis=2, keepdims=True)).mean(axis=2)
    product = np.abs(np.log(kept[:, 1:, 0] / kept[:, :-1, 0]))
    lower = best[:, -1] <= best[:, 0]
    middle = np.median(loss, axis=0)
    ax = plots.heatmap(
        rates,
        [f"{n}" for n in epochs],
        np.log10(np.where(middle < 3, middle, np.nan)),
        title="Loss by rate and length of training",
        xlabel="learning rate",
        ylabel="epochs",
        label="log10 of the training loss",
    )
    ax.plot(np.median(best, axis=0), range(len(epochs)), "o", color="#d55e00", ms=6)
    return Judgement(
        verdict_by_wins(lower),
        "The best rate for the longest training must not be above the best for the shortest, in "
        "four seeds of five.",
        f"Best rate: {spread(best[:, 0], '{:.2g}')} for the shortest, "
        f"{spread(best[:, -1], '{:.2g}')} for the longest. The share of rates within twice the "
        f"best loss goes from {100 * widths[:, 0].mean():.0f} % to "
        f"{100 * widths[:, -1].mean():.0f} %; at the lowest rate, doubling the steps changes the "
        f"loss by {100 * product.mean():.0f} %.",
        [(ax, "Dots: the best rate of each row, median of the seeds. Hatched: lost.")],
        ["epochs", "best rate"],
        [[f"{n}", spread(best[:, i], "{:.2g}")] for i, n in enumerate(epochs)],
    )


TUNED = {
    "SGD": (ss.SGD, np.geomspace(0.01, 1, 7)),
    "Adam": (ss.Adam, np.geomspace(0.001, 0.1, 7)),
}


def adaptive(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    epochs = 2 if quick else 10
    found: dict[str, Any] = {}
    for name, (rule, rates) in TUNED.items():
        tried = rates[::3] if quick else rates
        scores = sweep(problem, rule, tried, epochs=epochs, seed=seed)
        found[name], found[f"{name} rates"] = scores["loss"], tried
        found[f"{name} accuracy"] = scores["accuracy"]
    for name, rule in {
        "D-Adaptation": ss.DAdaptAdam,
        "Prodigy": ss.Prodigy,
        "DoG": ss.DoG,
    }.items():
        run = train(problem, rule, None, epochs=epochs, seed=seed)
        found[f"{name} accuracy"] = run.accuracy
        found[f"{name} lr"] = run.history["lr"]
    return found


def judge_adaptive(results: Results) -> Judgement:
    accuracy = {}
    for name in TUNED:
        index, _ = picked(column(results, name))
        accuracy[f"{name}, tuned"] = 100 * column(results, f"{name} accuracy")[:, index]
    free = ("D-Adaptation", "Prodigy", "DoG")
    best = np.max(list(accuracy.values()), axis=0)
    for name in free:
        accuracy[name] = 100 * column(results, f"{name} accuracy")
    near = {name: accuracy[name] >= best - 2 for name in free}
    agree = [np.mean(w) >= 0.8 for w in near.values()]
    tries = len(results[0]["SGD rates"])
    dots = plots.comparison(
        accuracy,
        title="Tuned, and without tuning",
        xlabel="held-out accuracy, %",
        form="{:.1f} %",
    )
    return Judgement(
        graded(all(agree), any(agree)),
        f"Run once with their defaults, the rules must come within 2 points of the better of SGD "
        f"and Adam, each tuned over {tries} rates, in four seeds of five; where only some do, it "
        "holds under the condition of the rule.",
        "Within 2 points of the tuned rules: "
        + ", ".join(f"{name} in {share(w)}" for name, w in near.items())
        + ".",
        [(dots, f"Tuned: the best of {tries} whole trainings. The others: one training each.")],
        ["rule", "trainings", "held-out accuracy, %"],
        [
            [name, number(tries if "tuned" in name else 1), spread(values, "{:.1f}")]
            for name, values in accuracy.items()
        ],
    )


PAGES = [
    Claim(
        "curves",
        "Learning curves reveal over- and underfitting",
        "Training loss falling while validation loss rises means overfitting; both stuck high "
        "means underfitting. Rates that are too low or too high leave marks of their own. "
        "Five kinds of run are made on purpose and given to `ss.diagnose` without their names.",
        curves,
        judge_curves,
        ("SGD", "learning curves"),
    ),
    Claim(
        "tuning",
        "Automated tuning beats the grid",
        "A grid spends most of its runs where nothing happens. Methods that look at earlier runs "
        "should need fewer. "
        "Each method gets the same interval of rates and the same number of runs.",
        tuning,
        judge_tuning,
        ("tuning", "grid"),
        needs=("optuna",),
    ),
    Claim(
        "adaptive",
        "Rules that find their own rate match a tuned one",
        "D-Adaptation, Prodigy and DoG estimate how far the solution is and set the rate from it. "
        "If they work, one run replaces a search. "
        "They run with their defaults against rules whose rate was searched for.",
        adaptive,
        judge_adaptive,
        ("SGD", "Adam", "D-Adaptation", "Prodigy"),
    ),
    Claim(
        "map",
        "Longer training wants a lower rate",
        "With few steps to take, each must be long. With many, short ones arrive too, and settle "
        "deeper. "
        "The map shows the loss for each pair of rate and length.",
        rate_and_steps,
        judge_rate_and_steps,
        ("SGD",),
    ),
]
