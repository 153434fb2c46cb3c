"""Pages 6 to 12: rates that change over the training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import (
    HOLDS,
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
from stepsize.guide.models import conv_digits
from stepsize.plots.style import number

RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
# Batches of 8 leave much noise in each gradient, and noise is what a decay is to average out.
EPOCHS, BATCH = 12, 8
STEPS = EPOCHS * 169
Results = list[dict[str, Any]]


def race(seed: int, quick: bool, plans: dict[str, Any]) -> dict[str, Any]:
    """Each plan over the same rates and steps on digits; held-out losses, one row per plan."""
    problem, rates = ss.problems.digits(seed), RATES[1:3] if quick else RATES
    epochs = 2 if quick else EPOCHS
    return {
        name: sweep(problem, ss.SGD, rates, epochs=epochs, seed=seed, plan=plan, batch_size=BATCH)
        for name, plan in plans.items()
    }


def judge_race(results: Results, names: dict[str, str], claim: str) -> Judgement:
    """The named plans against the constant rate, each at its own best rate."""
    tables = {name: np.array([r[name]["loss"] for r in results]) for name in results[0]}
    rates = RATES if next(iter(tables.values())).shape[1] == len(RATES) else RATES[1:3]
    chosen = {name: picked(table) for name, table in tables.items()}
    constant = chosen["constant"][1]
    won = {name: chosen[name][1] < constant for name in names}
    agree = [np.mean(w) >= 0.8 for w in won.values()]
    verdict = graded(all(agree), any(agree))
    words = {"constant": "constant", **names}
    dots = plots.comparison(
        {words[name]: chosen[name][1] for name in tables},
        title="Each at its best rate",
        xlabel="held-out loss, lower is better",
        form="{:.3f}",
    )
    lines = plots.curves(
        rates,
        {words[name]: table for name, table in tables.items()},
        title="Held-out loss by starting rate",
        xlabel="rate at the start",
        ylabel="held-out loss",
        xscale="log",
        yscale="log",
        marker="o",
    )
    condition = (
        " With some of several decays it holds under that condition." if len(names) > 1 else ""
    )
    return Judgement(
        verdict,
        f"{claim} must reach a lower held-out loss than the constant rate, both with the same "
        f"steps and each at the best of {len(rates)} rates, in four seeds of five.{condition}",
        f"Constant: {spread(constant, '{:.3f}')}. "
        + " ".join(
            f"{words[n].capitalize()}: {spread(chosen[n][1], '{:.3f}')}, better in {share(won[n])}."
            for n in names
        ),
        [
            (dots, "Faint: seeds. Strong: their mean."),
            (lines, "Median, and the range of the seeds."),
        ],
        ["schedule", "best rate", "held-out loss"],
        [
            [words[name], number(rates[index]), spread(losses, "{:.3f}")]
            for name, (index, losses) in chosen.items()
        ],
    )


def refine(seed: int, quick: bool) -> dict[str, Any]:
    steps = 2 * 169 if quick else STEPS
    plans = {
        "constant": ss.schedules.constant,
        "linear": lambda lr: ss.schedules.linear(lr, 0.0, steps),
    }
    return race(seed, quick, plans)


def judge_refine(results: Results) -> Judgement:
    return judge_race(results, {"linear": "linear to 0"}, "A rate that falls to zero")


def step_decay(seed: int, quick: bool) -> dict[str, Any]:
    epochs = 1 if quick else 4
    steps, rates = epochs * 85, (0.1, 0.3) if quick else (0.03, 0.1, 0.3)
    plans = {
        "constant": ss.schedules.constant,
        "step": lambda lr: ss.schedules.step_decay(lr, max(1, steps // 3), 0.2),
    }
    networks = {"plain": ss.problems.digits(seed), "convolution": conv_digits(seed)}
    found: dict[str, Any] = {"rates": rates}
    for network, problem in networks.items():
        for name, plan in plans.items():
            scores = sweep(
                problem, ss.SGD, rates, epochs=epochs, seed=seed, plan=plan, batch_size=16
            )
            found[f"{network}, {name}"] = scores["loss"]
    return found


def judge_step_decay(results: Results) -> Judgement:
    names = ("plain", "convolution")
    chosen = {
        key: picked(column(results, key)) for n in names for key in (f"{n}, constant", f"{n}, step")
    }
    won = {n: chosen[f"{n}, step"][1] < chosen[f"{n}, constant"][1] for n in names}
    agree = [np.mean(w) >= 0.8 for w in won.values()]
    dots = plots.comparison(
        {key: losses for key, (_, losses) in chosen.items()},
        title="Constant rate and step decay",
        xlabel="held-out loss, lower is better",
        form="{:.3f}",
    )
    rates = results[0]["rates"]
    return Judgement(
        graded(all(agree), any(agree)),
        "Step decay (to a fifth after each third) must reach a lower held-out loss than the "
        "constant rate, each at its best rate, in four seeds of five: with both networks it holds, "
        "with one it holds under that condition.",
        " ".join(
            f"{n.capitalize()} network: {spread(chosen[f'{n}, constant'][1], '{:.3f}')} constant, "
            f"{spread(chosen[f'{n}, step'][1], '{:.3f}')} with steps, better in {share(won[n])}."
            for n in names
        ),
        [(dots, "The plain network and one with convolutions, on the same digits.")],
        ["network and schedule", "best rate", "held-out loss"],
        [[k, number(rates[i]), spread(v, "{:.3f}")] for k, (i, v) in chosen.items()],
    )


def exponential(seed: int, quick: bool) -> dict[str, Any]:
    steps = 2 * 169 if quick else STEPS
    plans = {
        "constant": ss.schedules.constant,
        "exponential": lambda lr: ss.schedules.exponential(lr, 0.01, steps),
    }
    return race(seed, quick, plans)


def judge_exponential(results: Results) -> Judgement:
    return judge_race(
        results, {"exponential": "exponential to a hundredth"}, "Exponential decay to a hundredth"
    )


def time_based(seed: int, quick: bool) -> dict[str, Any]:
    steps = 2 * 169 if quick else STEPS
    plans = {
        "constant": ss.schedules.constant,
        "time": lambda lr: ss.schedules.inverse_time(lr, 10.0, steps),
    }
    return race(seed, quick, plans)


def judge_time_based(results: Results) -> Judgement:
    return judge_race(results, {"time": "time-based"}, "Decay with 1 / (1 + 10 t / T)")


def smooth_decays(seed: int, quick: bool) -> dict[str, Any]:
    steps = 2 * 169 if quick else STEPS
    plans = {
        "constant": ss.schedules.constant,
        "polynomial": lambda lr: ss.schedules.polynomial(lr, 0.0, steps, 2.0),
        "cosine": lambda lr: ss.schedules.cosine(lr, 0.0, steps),
    }
    return race(seed, quick, plans)


def judge_smooth_decays(results: Results) -> Judgement:
    names = {"polynomial": "polynomial, power 2", "cosine": "cosine"}
    return judge_race(results, names, "Each of the two decays")


def cyclical(seed: int, quick: bool) -> dict[str, Any]:
    start = np.random.default_rng(seed).normal(0, 1e-3, 2)
    plans = {
        "constant, the cycle's mean": ss.schedules.constant(0.11),
        "cyclic": ss.schedules.cyclic(0.02, 0.2, 20),
        "constant, the cycle's top": ss.schedules.constant(0.2),
    }
    leaving = {}
    for name, plan in plans.items():
        p = ss.problems.saddle(start)
        opt = ss.SGD(p.params, lr=plan)
        steps = 0
        while abs(p.params[1]) < 0.5 and steps < 2000:
            opt.step(p.value_and_grad(p.params, None)[1])
            steps += 1
        leaving[name] = steps
    training = race(
        seed,
        quick,
        {
            "constant": ss.schedules.constant,
            "cyclic": lambda lr: ss.schedules.cyclic(lr / 10, lr, 85),
        },
    )
    return {"leaving": leaving, **training}


def judge_cyclical(results: Results) -> Judgement:
    names = list(results[0]["leaving"])
    steps = np.array([[r["leaving"][name] for name in names] for r in results])
    faster = steps[:, 1] < steps[:, 0]
    race_finding = judge_race(
        [{k: v for k, v in r.items() if k != "leaving"} for r in results],
        {"cyclic": "cyclic"},
        "A cyclic rate",
    )
    trains = race_finding.verdict == HOLDS
    leaves = faster.mean() >= 0.8
    verdict = graded(trains and leaves, trains or leaves)
    dots = plots.comparison(
        {name: steps[:, i] for i, name in enumerate(names)},
        title="Steps to leave a saddle point",
        xlabel="steps, fewer is better",
        form="{:.0f}",
    )
    return Judgement(
        verdict,
        "The cycle must leave the saddle in fewer steps than a constant rate of the same mean, and "
        "must train digits to a lower held-out loss than the best constant rate, each in four "
        "seeds of five. With one of the two it holds under that condition.",
        f"Saddle: {spread(steps[:, 1], '{:.0f}')} steps against {spread(steps[:, 0], '{:.0f}')}; "
        f"fewer in {share(faster)}. A constant rate at the top of the cycle needs "
        f"{spread(steps[:, 2], '{:.0f}')}. Digits: {race_finding.measured}",
        [(dots, "From a thousandth beside the saddle point."), *race_finding.figures],
        race_finding.header,
        race_finding.rows,
    )


WARM_RATES = np.geomspace(0.03, 0.3, 9)


def warm_up(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed, hidden=(48, 48, 48, 48))
    rule = partial(ss.SGD, momentum=0.9)
    epochs = 1 if quick else 4
    rates = WARM_RATES[::3] if quick else WARM_RATES
    plans: dict[str, Callable[[float], Any]] = {
        "none": ss.schedules.constant,
        "warm-up": lambda lr: ss.schedules.constant(lr).warmup(42),
    }
    return {
        name: sweep(problem, rule, rates, epochs=epochs, seed=seed, plan=plan)["accuracy"]
        for name, plan in plans.items()
    }


def judge_warm_up(results: Results) -> Judgement:
    cold, warm = 100 * column(results, "none"), 100 * column(results, "warm-up")
    rates = WARM_RATES if cold.shape[1] == len(WARM_RATES) else WARM_RATES[::3]

    def highest(table: Any) -> Any:
        trained = table > 80
        return np.array([rates[np.flatnonzero(row)].max(initial=0.0) for row in trained])

    top_cold, top_warm = highest(cold), highest(warm)
    higher = top_warm > top_cold
    ax = plots.curves(
        rates,
        {"with warm-up": warm, "without": cold},
        title="Accuracy by rate, five layers",
        xlabel="learning rate",
        ylabel="held-out accuracy, %",
        xscale="log",
        marker="o",
        ylim=(0, 104),
    )
    return Judgement(
        verdict_by_wins(higher),
        "The highest rate that still reaches 80 % accuracy must be higher with one epoch of "
        "warm-up than without, in four seeds of five.",
        f"Highest rate that trains: {spread(top_cold, '{:.2g}')} without and "
        f"{spread(top_warm, '{:.2g}')} with warm-up; higher in {share(higher)} seeds.",
        [(ax, "SGD with momentum 0.9 on a network of five layers; median and range of the seeds.")],
        ["rate", "accuracy without, %", "accuracy with warm-up, %"],
        [
            [number(float(f"{r:.2g}")), spread(cold[:, i], "{:.0f}"), spread(warm[:, i], "{:.0f}")]
            for i, r in enumerate(rates)
        ],
    )


PAGES = [
    Claim(
        "refine",
        "High first, then lower, refines",
        "A high rate travels far but its noise keeps it from settling. Lowered towards the end, "
        "the noise averages out. "
        "Both sides here get the same number of steps and the same rates to choose from.",
        refine,
        judge_refine,
        ("SGD", "linear decay"),
    ),
    Claim(
        "step-decay",
        "Step decay helps image classification",
        "For years image classifiers were trained with a rate cut down in a few large steps. "
        "Between the steps the rate is constant, at each step the loss drops. "
        "Tried on digits with a plain network and with a small convolutional one.",
        step_decay,
        judge_step_decay,
        ("SGD", "step decay"),
    ),
    Claim(
        "exponential",
        "Exponential decay beats a constant rate",
        "The rate is multiplied by the same factor at every step. It falls fast at first and "
        "never reaches zero. "
        "Here it ends at a hundredth of where it began.",
        exponential,
        judge_exponential,
        ("SGD", "exponential decay"),
    ),
    Claim(
        "time-based",
        "Time-based decay beats a constant rate",
        "The rate is divided by one plus the time: the oldest schedule, and the one of the "
        "convergence proofs. It falls quickly and then ever more slowly. "
        "Here it ends at an eleventh of where it began.",
        time_based,
        judge_time_based,
        ("SGD", "time-based decay"),
    ),
    Claim(
        "smooth-decays",
        "Polynomial and cosine decay beat a constant rate",
        "Both reach zero exactly at the end of the training. Cosine stays high for longer, the "
        "square falls at once. "
        "They are compared with a constant rate under the same budget.",
        smooth_decays,
        judge_smooth_decays,
        ("SGD", "polynomial decay", "cosine decay"),
    ),
    Claim(
        "cyclical",
        "Cyclical rates leave saddle points and train better",
        "Near a saddle point the gradient is tiny, and a larger step gets away sooner. A cycle "
        "brings larger steps now and then, and small ones in between. "
        "Against it stand constant rates: its mean, its top, and the best of several.",
        cyclical,
        judge_cyclical,
        ("SGD", "cyclic rate"),
    ),
    Claim(
        "warm-up",
        "Warm-up prevents early divergence and lets the rate be higher",
        "Fresh weights sit where the loss bends most. A rate that would be fine later can throw "
        "them away in the first steps. "
        "Warm-up raises the rate from zero over the first epoch.",
        warm_up,
        judge_warm_up,
        ("momentum", "warm-up"),
    ),
]
