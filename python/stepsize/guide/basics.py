"""Pages 1 to 5: what a rate does, and what too high and too low mean."""

from __future__ import annotations

from typing import Any

import numpy as np

import stepsize as ss
from stepsize import plots
from stepsize.guide.claim import (
    FAILS,
    HOLDS,
    Claim,
    Judgement,
    column,
    graded,
    share,
    spread,
    train,
    verdict_by_wins,
)
from stepsize.plots.style import number


def update_rule(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    _, grads = problem.value_and_grad(problem.params, problem.train)
    gradient = grads["layers"][0]["w"].ravel()
    wrong, changes = [], []
    for lr in (0.05, 0.1, 0.2):
        p = problem.fresh()
        before = p.params["layers"][0]["w"].copy()
        ss.SGD(p.params, lr=lr).step(grads)
        after = p.params["layers"][0]["w"]
        wrong.append(int(np.sum(after != before - np.float32(lr) * grads["layers"][0]["w"])))
        changes.append((after - before).ravel()[::16])
    return {"wrong": wrong, "gradient": gradient[::16], "changes": changes}


def judge_update_rule(results: list[dict[str, Any]]) -> Judgement:
    wrong = column(results, "wrong")
    one = results[0]
    order = np.argsort(one["gradient"])
    ax = plots.curves(
        np.asarray(one["gradient"])[order],
        {
            f"rate {lr}": np.asarray(change)[order]
            for lr, change in zip((0.05, 0.1, 0.2), one["changes"], strict=True)
        },
        title="Change against gradient",
        xlabel="gradient of a weight",
        ylabel="change of that weight",
    )
    return Judgement(
        HOLDS if not wrong.any() else FAILS,
        "Every weight must equal, bit for bit, its old value minus rate times gradient.",
        f"{int(wrong.sum())} of {wrong.size * 64 * 32:,} weights differ from that by even one bit.",
        [(ax, "Each line is as steep as its rate and points down: the step is -rate x gradient.")],
        ["rate", "weights that differ, all seeds"],
        [[str(lr), f"{int(n)}"] for lr, n in zip((0.05, 0.1, 0.2), wrong.sum(axis=0), strict=True)],
    )


TIMES = (0.5, 1.0, 1.5, 1.9, 2.1, 2.5)


def too_high(seed: int, quick: bool) -> dict[str, Any]:
    curvatures = np.random.default_rng(seed).uniform(0.1, 10.0, 20)
    paths = []
    for times in TIMES:
        bowl = ss.problems.quadratic(curvatures)
        opt = ss.SGD(bowl.params, lr=times / curvatures.max())
        losses = []
        for _ in range(60):
            loss, grad = bowl.value_and_grad(bowl.params, None)
            losses.append(loss)
            opt.step(grad)
        paths.append(losses)
    steps = 200 if quick else 1500
    edges = [sharpness_times_rate(seed, lr, steps) for lr in (0.3, 0.4)]
    return {"paths": paths, "edges": edges}


def sharpness_times_rate(seed: int, lr: float, steps: int) -> list[float]:
    """Rate times the largest curvature, along gradient descent on 200 digits, all at once."""
    x, labels = ss.problems.digits(seed, rows=200).train
    p = ss.problems.regressor(x, np.eye(10)[labels], validation=0.0, seed=seed)
    opt, rng, found = ss.SGD(p.params, lr=lr), np.random.default_rng(seed), []
    for step in range(steps):
        if step % 100 == 0:
            found.append(lr * largest_curvature(p, rng))
        opt.step(p.value_and_grad(p.params, p.train)[1])
    return found


def largest_curvature(p: Any, rng: Any) -> float:
    """Power iteration on differences of gradients: the direction that bends most."""
    layers = p.params["layers"]
    direction = [{k: rng.standard_normal(v.shape) for k, v in layer.items()} for layer in layers]
    size = 0.0
    for _ in range(15):
        norm = np.sqrt(sum(float(np.sum(v * v)) for d in direction for v in d.values()))
        ends = []
        for sign in (1e-2, -1e-2):
            moved = [
                {k: (layer[k] + sign * d[k] / norm).astype(np.float32) for k in layer}
                for layer, d in zip(layers, direction, strict=True)
            ]
            ends.append(p.value_and_grad({"layers": moved}, p.train)[1]["layers"])
        direction = [
            {k: (a[k].astype(float) - b[k]) / 2e-2 for k in a} for a, b in zip(*ends, strict=True)
        ]
        size = np.sqrt(sum(float(np.sum(v * v)) for d in direction for v in d.values()))
    return float(size)


def judge_too_high(results: list[dict[str, Any]]) -> Judgement:
    paths, edges = column(results, "paths"), column(results, "edges")
    grew = paths[:, :, -1] > paths[:, :, 0]
    exact = bool((grew == (np.array(TIMES) > 2)).all())
    late = edges[:, :, edges.shape[2] // 2 :].mean(axis=2)
    hovers = (late > 1.5) & (late < 3)
    bowl = plots.curves(
        np.arange(paths.shape[2]),
        {f"{t:g}": paths[:, i] for i, t in enumerate(TIMES)},
        title="Loss on a bowl, by rate x curvature",
        xlabel="step",
        ylabel="loss",
        yscale="log",
        ylim=(1e-6, 1e6),
    )
    network = plots.curves(
        100 * np.arange(edges.shape[2]),
        {f"rate {lr:g}": edges[:, i] for i, lr in enumerate((0.3, 0.4))},
        title="A network meets the edge",
        xlabel="step",
        ylabel="rate x largest curvature",
    )
    network.axhline(2, color="#646c76", linewidth=1, linestyle="--")
    verdict = graded(exact and hovers.mean() >= 0.8, exact)
    return Judgement(
        verdict,
        "On a bowl the loss must grow exactly where rate x largest curvature exceeds 2. A network "
        "must be driven to that edge and stay there: between 1.5 and 3 in the second half, in four "
        "cases of five. With the bowl alone the claim holds under the condition of a bowl.",
        f"The bowl agrees in {share(grew == (np.array(TIMES) > 2))} runs. In the network, rate x "
        f"curvature ends at {spread(late[:, 0], '{:.2f}')} for the rate 0.3 and at "
        f"{spread(late[:, 1], '{:.2f}')} for 0.4; {share(hovers)} stay at the edge.",
        [
            (
                bowl,
                "Below 2 the loss shrinks, above 2 every step overshoots by more than the last.",
            ),
            (network, "Wherever it begins, rate x curvature is driven to about 2 and stays there."),
        ],
        ["rate x curvature", "loss grew in"],
        [[f"{t:g}", f"{share(grew[:, i])} runs"] for i, t in enumerate(TIMES)],
    )


LOW_RATES = np.geomspace(2e-3, 0.5, 8)


def too_low(seed: int, quick: bool) -> dict[str, Any]:
    problem, steps = ss.problems.digits(seed), []
    for lr in LOW_RATES[-3:] if quick else LOW_RATES:
        run = train(problem, ss.SGD, float(lr), epochs=30, seed=seed)
        smooth = np.convolve(run.history["loss"], np.ones(42) / 42, "valid")
        reached = np.flatnonzero(smooth < 1.0)
        steps.append(float(reached[0]) + 42 if len(reached) else np.nan)
    return {"steps": steps}


def judge_too_low(results: list[dict[str, Any]]) -> Judgement:
    steps = column(results, "steps")
    rates = LOW_RATES[-steps.shape[1] :]
    slopes = []
    for row in steps:
        # The slow half of the runs that arrived: there the crawl is to be seen.
        here = np.flatnonzero(np.isfinite(row))
        here = here[: max(2, len(here) // 2)]
        slopes.append(np.polyfit(np.log(rates[here]), np.log(row[here]), 1)[0])
    fits = np.abs(np.array(slopes) + 1) < 0.25
    ax = plots.curves(
        rates,
        {"steps": steps},
        title="Steps to a loss of 1",
        xlabel="learning rate",
        ylabel="steps",
        xscale="log",
        yscale="log",
        marker="o",
    )
    never = ~np.isfinite(steps)
    return Judgement(
        verdict_by_wins(fits),
        "Among the slowest rates that arrive, steps must go as rate to the power -1 "
        "(slope between -1.25 and -0.75 in a log-log fit), for four seeds in five: half the rate, "
        "twice the steps.",
        f"The slope is {spread(slopes, '{:.2f}')}. {share(never)} runs had not arrived after "
        "30 epochs.",
        [(ax, "Both axes are logarithmic: a straight fall means inverse proportion.")],
        ["rate", "steps to a loss of 1"],
        [[number(float(f"{r:.2g}")), spread(steps[:, i], "{:.0f}")] for i, r in enumerate(rates)],
    )


WELL_RATES, XOR_RATES = (0.01, 0.03, 0.1, 0.2), (0.03, 0.3, 3.0)


def two_wells(x: Any) -> tuple[Any, Any]:
    """A shallow well near 1 and a deeper one near -1; value and slope."""
    return x**4 / 4 - x**2 / 2 + 0.15 * x, x**3 - x + 0.15


def poor_minimum(seed: int, quick: bool) -> dict[str, Any]:
    rng, deep = np.random.default_rng(seed), []
    for lr in WELL_RATES:
        x = np.ones(20 if quick else 200)  # as many walkers, all in the shallow well
        opt = ss.SGD(x, lr=ss.schedules.cosine(lr, 0.0, 1500))
        for _ in range(1500):
            opt.step(two_wells(x)[1] + rng.normal(0, 1.2, x.size))
        deep.append(float(np.mean(x < 0)))
    corners, solved = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]), []
    for lr in XOR_RATES:
        right = []
        for start in range(4 if quick else 12):
            p = ss.problems.classifier(
                corners, [0, 1, 1, 0], hidden=(3,), validation=0.0, seed=100 * seed + start
            )
            steps = int(60 / lr)  # equal rate x steps: the low rate gets the time it needs
            opt = ss.SGD(p.params, lr=ss.schedules.cosine(lr, 0.0, steps))
            for _ in range(steps):
                opt.step(p.value_and_grad(p.params, p.train)[1])
            loss, _ = p.value_and_grad(p.params, p.train)
            right.append(loss < 0.1)
        solved.append(float(np.mean(right)))
    return {"deep": deep, "solved": solved}


def judge_poor_minimum(results: list[dict[str, Any]]) -> Judgement:
    deep, solved = 100 * column(results, "deep"), 100 * column(results, "solved")
    wells = deep[:, -1] > deep[:, 0] + 10
    network = solved[:, 1:].max(axis=1) > solved[:, 0]
    both = wells & network
    verdict = graded(both.mean() >= 0.8, wells.mean() >= 0.8)
    x = np.linspace(-1.6, 1.6, 200)
    shape = plots.curves(x, {"": two_wells(x)[0]}, title="Two wells", xlabel="x", ylabel="loss")
    share_deep = plots.curves(
        WELL_RATES,
        {"two wells": deep},
        title="Walkers that end in the deeper well",
        xlabel="rate at the start",
        ylabel="share, %",
        xscale="log",
        marker="o",
        ylim=(0, 104),
    )
    share_solved = plots.curves(
        XOR_RATES,
        {"XOR": solved},
        title="Networks of 3 units that learn XOR",
        xlabel="rate at the start",
        ylabel="share, %",
        xscale="log",
        marker="o",
        ylim=(0, 104),
    )
    return Judgement(
        verdict,
        "With noisy gradients, the highest rate must bring at least 10 % more walkers into the "
        "deeper well than the lowest, and in the network a higher rate must solve XOR more often "
        "than the lowest; each in four seeds of five. With the wells alone it holds under the "
        "condition that noise carries the steps over the barrier.",
        f"From the shallow well, {spread(deep[:, 0], '{:.0f}')} % leave at the lowest rate and "
        f"{spread(deep[:, -1], '{:.0f}')} % at the highest. XOR is learned by "
        f"{spread(solved[:, 0], '{:.0f}')} % of networks at the lowest rate and at best by "
        f"{spread(solved[:, 1:].max(axis=1), '{:.0f}')} % at a higher one.",
        [
            (shape, "All walkers start on the right, in the shallow well."),
            (share_deep, "The noise of a step grows with its rate; every rate then decays to 0."),
            (share_solved, "A network stuck on XOR has dead units: no step size revives those."),
        ],
        ["rate", "end in the deeper well, %"],
        [[f"{r:g}", spread(deep[:, i], "{:.0f}")] for i, r in enumerate(WELL_RATES)],
    )


def smooth_and_quick(seed: int, quick: bool) -> dict[str, Any]:
    problem = ss.problems.digits(seed)
    batches = problem.batches(seed=seed)
    found = ss.lr_find(problem.value_and_grad, problem.params, batches, progress=False).suggestion
    epochs = 4 if quick else 15
    runs = {
        name: train(problem, ss.SGD, lr, epochs=epochs, seed=seed)
        for name, lr in {"tenth": found / 10, "found": found, "tenfold": found * 10}.items()
    }
    losses = {name: run.history["loss"][: epochs * 42] for name, run in runs.items()}
    by_epoch = {k: v[: len(v) // 42 * 42].reshape(-1, 42).mean(axis=1) for k, v in losses.items()}
    peaks = {name: float(np.max(v) / v[0]) for name, v in losses.items()}
    finals = {k: float(v[-1]) if len(v) == epochs else np.nan for k, v in by_epoch.items()}
    return {"rate": found, "peaks": peaks, "finals": finals, "losses": losses}


def judge_smooth_and_quick(results: list[dict[str, Any]]) -> Judgement:
    names = ("tenth", "found", "tenfold")
    finals = np.array([[r["finals"][n] for n in names] for r in results])
    peaks = np.array([[r["peaks"][n] for n in names] for r in results])
    lowest = np.nanargmin(np.where(np.isfinite(finals), finals, np.inf), axis=1) == 1
    smooth = (peaks[:, 1] < 2) & (peaks[:, 1] < peaks[:, 2])
    ok = lowest & smooth
    words = {"tenth": "a tenth", "found": "found", "tenfold": "ten times"}
    ax = plots.learning_curves(
        {words[n]: {"loss": results[0]["losses"][n]} for n in names}, title="Loss, first seed"
    )
    return Judgement(
        verdict_by_wins(ok),
        "The rate found must end with the lowest training loss of the three, and its loss must "
        "never double, nor rise as high as at ten times the rate, for four seeds in five.",
        f"Found: {spread(column(results, 'rate'), '{:.2g}')}. Lowest in {share(lowest)} seeds, "
        f"smooth in {share(smooth)}.",
        [(ax, "Training loss, averaged over the last fortieth of the run.")],
        ["rate", "final loss", "highest loss, in units of the first"],
        [[words[n], spread(finals[:, i]), spread(peaks[:, i])] for i, n in enumerate(names)],
    )


PAGES = [
    Claim(
        "update-rule",
        "The step is the rate times the gradient",
        "Gradient descent changes every weight by minus the learning rate times its gradient. "
        "Nothing else enters: twice the rate is twice the step. "
        "Here one step is taken on a network of 2,400 weights and compared with the formula.",
        update_rule,
        judge_update_rule,
        ("SGD",),
    ),
    Claim(
        "too-high",
        "Too high a rate overshoots, oscillates and diverges",
        "Where the loss bends with curvature c, a step multiplies the distance to the minimum by "
        "1 - rate x c. Beyond rate x c = 2 every step lands farther away than it began. "
        "A network has no fixed curvature, so here it is measured while it trains.",
        too_high,
        judge_too_high,
        ("SGD",),
    ),
    Claim(
        "too-low",
        "Too low a rate crawls",
        "A small step is safe but short. If the steps are small enough, what counts is only their "
        "number times the rate. So the time to a given loss should double when the rate is halved.",
        too_low,
        judge_too_low,
        ("SGD",),
    ),
    Claim(
        "poor-minimum",
        "Too low a rate stays in a poor minimum",
        "A small step cannot leave the well it is in. A larger one, with the noise of batches, "
        "crosses the barrier, and a decay then lets it settle. "
        "Tried on a landscape of two wells, and on a tiny network that often gets stuck.",
        poor_minimum,
        judge_poor_minimum,
        ("SGD", "cosine decay"),
    ),
    Claim(
        "smooth-and-quick",
        "A well-chosen rate is smooth and quick",
        "The range test names a rate. Trained at a tenth of it the network should lag, at ten "
        "times it the loss should jump. In between it should fall fast and without rising.",
        smooth_and_quick,
        judge_smooth_and_quick,
        ("SGD", "range test", "learning curves"),
    ),
]
