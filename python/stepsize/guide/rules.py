"""Pages 13 to 17: the rules, and what each makes of its rate."""

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
    verdict_by_wins,
)
from stepsize.guide.models import characters, words
from stepsize.plots.style import number

Results = list[dict[str, Any]]
MOMENTUM = partial(ss.SGD, momentum=0.9)


def duel(
    results: Results, names: dict[str, str], title: str, xlabel: str, key: str = "loss"
) -> tuple[dict[str, Any], Any, list[list[str]]]:
    """Rules at their best rates: losses per seed, a picture, and the rows of a table."""
    chosen, rows = {}, []
    for name, words_ in names.items():
        index, losses = picked([r[name][key] for r in results])
        chosen[name] = losses
        rows.append([words_, number(results[0][name]["rates"][index]), spread(losses, "{:.3f}")])
    dots = plots.comparison(
        {names[name]: losses for name, losses in chosen.items()},
        title=title,
        xlabel=xlabel,
        form="{:.3f}",
    )
    return chosen, dots, rows


def rare_features(seed: int, quick: bool) -> dict[str, Any]:
    problem = words(seed)
    found: dict[str, Any] = {}
    for name, rule, rates in (
        ("SGD", ss.SGD, (0.1, 0.3, 1.0, 3.0, 10.0)),
        ("Adagrad", ss.Adagrad, (0.01, 0.03, 0.1, 0.3, 1.0)),
    ):
        tried = rates[2:4] if quick else rates
        found[name] = sweep(problem, rule, tried, epochs=2 if quick else 6, seed=seed)
        found[name]["rates"] = list(tried)
    return found


def judge_rare_features(results: Results) -> Judgement:
    names = {"SGD": "SGD", "Adagrad": "Adagrad"}
    chosen, dots, rows = duel(results, names, "Rare words", "held-out loss, lower is better")
    won = chosen["Adagrad"] < chosen["SGD"]
    return Judgement(
        verdict_by_wins(won),
        "On bags of words in which only rare words tell, Adagrad must reach a lower held-out loss "
        "than SGD, each at the best of the same number of rates, in four seeds of five.",
        f"SGD: {spread(chosen['SGD'], '{:.3f}')}. Adagrad: {spread(chosen['Adagrad'], '{:.3f}')}, "
        f"better in {share(won)} seeds.",
        [(dots, "Linear classifier, 1,000 words, occurrence falling as one over rank.")],
        ["rule", "best rate", "held-out loss"],
        rows,
    )


PHASES, LENGTH = 8, 150
CHASE = {
    "Adagrad": (ss.Adagrad, (0.1, 0.3, 1.0, 3.0)),
    "RMSprop": (ss.RMSprop, (0.003, 0.01, 0.03, 0.1)),
}


def dying_rate(seed: int, quick: bool) -> dict[str, Any]:
    phases = 3 if quick else PHASES
    targets = np.random.default_rng(seed).normal(0, 1, (phases, 20))
    found: dict[str, Any] = {}
    for name, (rule, rates) in CHASE.items():
        tables = []
        for lr in rates:
            x = np.zeros(20)
            opt, losses = rule(x, lr=lr), []
            for target in np.repeat(targets, LENGTH, axis=0):
                losses.append(float(np.sum((x - target) ** 2) / 2))
                opt.step(x - target)
            tables.append(losses)
        # The rate is chosen on the first phase alone: what comes after is the test.
        best = int(np.argmin([np.mean(row[:LENGTH]) for row in tables]))
        found[name] = tables[best]
        found[f"{name} rate"] = rates[best]
    return found


def judge_dying_rate(results: Results) -> Judgement:
    names = list(CHASE)
    curves = {name: column(results, name) for name in names}
    phases = {n: c.reshape(len(c), -1, LENGTH).mean(axis=2) for n, c in curves.items()}
    slower = {n: p[:, -1] / p[:, 0] for n, p in phases.items()}
    dies = slower["Adagrad"] > 2
    repaired = slower["RMSprop"] < slower["Adagrad"] / 2
    ax = plots.curves(
        np.arange(curves["Adagrad"].shape[1]),
        curves,
        title="The target moves every 150 steps",
        xlabel="step",
        ylabel="distance to the target, squared",
        yscale="log",
        ylim=(1e-6, None),
    )
    return Judgement(
        graded(dies.mean() >= 0.8 and repaired.mean() >= 0.8, dies.mean() >= 0.8),
        "With the rate chosen for the first target, Adagrad's mean loss on the last target must "
        "be more than twice that on the first, and RMSprop's slow-down less than half of "
        "Adagrad's; in four seeds of five. With the first alone it holds under that condition.",
        f"From first to last target the loss grows by a factor of "
        f"{spread(slower['Adagrad'], '{:.1f}')} for Adagrad and "
        f"{spread(slower['RMSprop'], '{:.1f}')} for RMSprop.",
        [(ax, "Adagrad divides by all gradients ever seen and so arrives later every time.")],
        ["rule", "mean loss, first target", "mean loss, last target"],
        [[n, spread(phases[n][:, 0]), spread(phases[n][:, -1])] for n in names],
    )


WIDTH_RATES = np.geomspace(1e-5, 10, 19)
WIDTH_RULES: dict[str, Any] = {
    "SGD": ss.SGD,
    "momentum": MOMENTUM,
    "Adagrad": ss.Adagrad,
    "RMSprop": ss.RMSprop,
    "Adam": ss.Adam,
    "AdamW": ss.AdamW,
}


def width(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    rates = WIDTH_RATES[::4] if quick else WIDTH_RATES
    return {
        name: sweep(problem, rule, rates, epochs=2 if quick else 5, seed=seed)["accuracy"]
        for name, rule in WIDTH_RULES.items()
    }


def judge_width(results: Results) -> Judgement:
    tables = {name: 100 * column(results, name) for name in WIDTH_RULES}
    rates = WIDTH_RATES if tables["SGD"].shape[1] == len(WIDTH_RATES) else WIDTH_RATES[::4]
    decades = float(np.log10(rates[1] / rates[0]))
    widths = {
        name: decades * (table >= table.max(axis=1, keepdims=True) - 3).sum(axis=1)
        for name, table in tables.items()
    }
    wider = {name: widths["Adam"] > widths[name] for name in ("SGD", "momentum")}
    agree = [np.mean(w) >= 0.8 for w in wider.values()]
    lines = plots.curves(
        rates,
        tables,
        title="Accuracy by rate",
        xlabel="learning rate",
        ylabel="held-out accuracy, %",
        xscale="log",
        ylim=(0, 104),
    )
    dots = plots.comparison(
        widths, title="Width of the good interval", xlabel="decades of rates", form="{:.2f}"
    )
    return Judgement(
        graded(all(agree), any(agree)),
        "The rates within 3 points of a rule's own best accuracy must span more decades for Adam "
        "than for SGD and for SGD with momentum, in four seeds of five; against one of the two it "
        "holds under that condition.",
        f"Adam's interval spans {spread(widths['Adam'], '{:.2f}')} decades, SGD's "
        f"{spread(widths['SGD'], '{:.2f}')}, momentum's {spread(widths['momentum'], '{:.2f}')}; "
        f"wider than SGD's in {share(wider['SGD'])} seeds, than momentum's in "
        f"{share(wider['momentum'])}.",
        [(lines, "Median and range of the seeds."), (dots, "Rates within 3 points of the best.")],
        ["rule", "best rate", "width in decades"],
        [
            [
                name,
                number(float(f"{rates[int(table.mean(axis=0).argmax())]:.2g}")),
                spread(widths[name], "{:.2f}"),
            ]
            for name, table in tables.items()
        ],
    )


def text_model(seed: int, quick: bool) -> dict[str, Any]:
    problem = characters(seed, 1000 if quick else 5000)
    found: dict[str, Any] = {}
    for name, rule, rates in (
        ("SGD", ss.SGD, (0.1, 0.3, 1.0, 3.0)),
        ("momentum", MOMENTUM, (0.01, 0.03, 0.1, 0.3)),
        ("Adam", ss.Adam, (0.001, 0.003, 0.01, 0.03)),
    ):
        tried = rates[1:3] if quick else rates
        found[name] = sweep(problem, rule, tried, epochs=1 if quick else 4, seed=seed)
        found[name]["rates"] = list(tried)
    return found


def judge_text_model(results: Results) -> Judgement:
    names = {"SGD": "SGD", "momentum": "SGD, momentum 0.9", "Adam": "Adam"}
    chosen, dots, rows = duel(
        results, names, "Guessing letters", "held-out loss in nats per letter"
    )
    beats = {name: chosen["Adam"] < chosen[name] for name in ("SGD", "momentum")}
    agree = [np.mean(won) >= 0.8 for won in beats.values()]
    return Judgement(
        graded(all(agree), any(agree)),
        "At its best rate Adam must reach a lower held-out loss than SGD and than SGD with "
        "momentum at theirs, all with the same number of rates and steps, in four seeds of five; "
        "against one of the two it holds under that condition.",
        f"Adam: {spread(chosen['Adam'], '{:.3f}')}. SGD: {spread(chosen['SGD'], '{:.3f}')}, beaten "
        f"in {share(beats['SGD'])}. Momentum: {spread(chosen['momentum'], '{:.3f}')}, beaten in "
        f"{share(beats['momentum'])}.",
        [(dots, "A network with one hidden layer sees four letters and guesses the next.")],
        ["rule", "best rate", "held-out loss"],
        rows,
    )


MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
MAP_RATES = np.geomspace(0.003, 3, 10)


def momentum_map(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    rates = MAP_RATES[::3] if quick else MAP_RATES
    tables = []
    for momentum in MOMENTA:
        rule = partial(ss.SGD, momentum=momentum)
        scores = sweep(problem, rule, rates, epochs=1 if quick else 3, seed=seed)
        tables.append(scores["train_loss"])
    return {"loss": tables}


def judge_momentum_map(results: Results) -> Judgement:
    loss = column(results, "loss")
    rates = MAP_RATES if loss.shape[2] == len(MAP_RATES) else MAP_RATES[::3]
    kept = np.where(np.isfinite(loss), loss, np.inf)
    best = rates[kept.argmin(axis=2)]
    slopes = np.array(
        [np.polyfit(np.log(1 - np.array(MOMENTA)), np.log(row), 1)[0] for row in best]
    )
    falls = (slopes > 0.5) & (slopes < 1.5)
    middle = np.median(loss, axis=0)
    shown = np.where(middle < 3, middle, np.nan)
    ax = plots.heatmap(
        rates,
        [f"{m:g}" for m in MOMENTA],
        np.log10(shown),
        title="Loss by rate and momentum",
        xlabel="learning rate",
        ylabel="momentum",
        label="log10 of the training loss",
    )
    ax.plot(np.median(best, axis=0), range(len(MOMENTA)), "o", color="#d55e00", ms=6)
    return Judgement(
        verdict_by_wins(falls),
        "If momentum m makes a step worth 1 / (1 - m) steps, the best rate must fall as "
        "(1 - m): slope of log best rate against log (1 - m) between 0.5 and 1.5, in four seeds of "
        "five.",
        f"The slope is {spread(slopes, '{:.2f}')}, as asked in {share(falls)} seeds.",
        [(ax, "Dots: the best rate for each momentum, median of the seeds. Hatched: lost.")],
        ["momentum", "best rate"],
        [[f"{m:g}", spread(best[:, i], "{:.2g}")] for i, m in enumerate(MOMENTA)],
    )


PAGES = [
    Claim(
        "rare-features",
        "Adagrad favours rare features",
        "Adagrad divides each weight's rate by the gradients that weight has seen. A word that is "
        "seldom seen keeps a large step for the day it comes. "
        "In these documents common words mean nothing and rare ones everything.",
        rare_features,
        judge_rare_features,
        ("SGD", "Adagrad"),
    ),
    Claim(
        "dying-rate",
        "Adagrad's rate dies, and RMSprop repairs that",
        "What Adagrad divides by only grows, so its steps only shrink. RMSprop forgets old "
        "gradients and keeps its pace. "
        "Here the target jumps every 150 steps, and each rule must follow.",
        dying_rate,
        judge_dying_rate,
        ("Adagrad", "RMSprop"),
    ),
    Claim(
        "width",
        "Adam depends less on the rate",
        "Adam's step does not grow with the gradient, which is said to make it forgiving. A "
        "forgiving rule has a wide interval of good rates. "
        "Here that interval is measured for six rules on the same network.",
        width,
        judge_width,
        ("SGD", "momentum", "Adagrad", "RMSprop", "Adam", "AdamW"),
    ),
    Claim(
        "text",
        "Adam beats SGD on text",
        "Language models are trained with Adam almost without exception. The reason given is that "
        "rare letters and words get gradients seldom. "
        "Tried on the help texts that Python ships, so the numbers differ a little between "
        "versions of Python.",
        text_model,
        judge_text_model,
        ("SGD", "momentum", "Adam"),
    ),
    Claim(
        "momentum",
        "Momentum and rate must be chosen together",
        "With momentum m a gradient is used again and again, 1 / (1 - m) times in all. Momentum "
        "0.9 at the same rate is therefore ten times the step. "
        "The map shows the loss for each pair.",
        momentum_map,
        judge_momentum_map,
        ("momentum",),
    ),
]
