"""Successive halving that continues its runs, here and in processes."""

from __future__ import annotations

import math
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.trials import Trial

SPACE = {"lr": ss.LogUniform(1e-4, 1.0), "momentum": ss.Uniform(0.0, 0.9)}
GO = {"trials": 9, "method": "halving", "budget": (5, 45), "seed": 1}


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4))
    return x, x @ np.arange(4.0) + rng.normal(0, 0.1, 64)


def value_and_grad(params, batch):
    x, y = batch
    miss = x @ params["w"] - y
    return float(miss @ miss) / len(miss), {"w": 2 / len(miss) * (x.T @ miss)}


def training(log, point, trial):
    """Trains to the budget from where it was; notes how many gradients that took."""
    count = []

    def counting(params, batch):
        count.append(1)
        return value_and_grad(params, batch)

    params = {"w": np.zeros(4)}
    opt = ss.SGD(params, lr=point["lr"], momentum=point["momentum"])
    given = {"steps": trial.budget, "checkpoint": trial.checkpoint, "resume": True}
    run = ss.fit(counting, params, opt, data(), batch_size=16, progress=False, **given)
    assert len(run["loss"]) == trial.budget
    if log:
        with open(log, "a") as stream:
            stream.write(f"{trial.number} {trial.budget} {len(count)} {trial.share:.3f}\n")
    return float(run["loss"][-5:].mean())


def in_one_go(point, steps):
    trial = Trial({}, budget=steps, most=steps)
    trial.checkpoint = None
    params = {"w": np.zeros(4)}
    opt = ss.SGD(params, lr=point["lr"], momentum=point["momentum"])
    run = ss.fit(value_and_grad, params, opt, data(), batch_size=16, steps=steps, progress=False)
    return float(run["loss"][-5:].mean())


def facts(result):
    return [(t.number, t.point, t.value, t.state, t.reports) for t in result.trials]


def test_the_best_go_on_from_where_they_were(tmp_path):
    log = tmp_path / "log"
    result = ss.tune(partial(training, str(log)), SPACE, **GO)
    calls = [line.split() for line in log.read_text().splitlines()]
    assert [int(c[1]) for c in calls] == [5] * 9 + [15] * 3 + [45]
    assert [int(c[2]) for c in calls] == [5] * 9 + [10] * 3 + [30]  # gradients: none made twice
    assert [float(c[3]) for c in calls] == [0.111] * 9 + [0.333] * 3 + [1.0]
    done = [t for t in result.trials if t.state == "done"]
    assert len(result.trials) == 9 and len(done) == 1 and result.best == done[0].point
    assert done[0].value == in_one_go(done[0].point, 45)  # bit for bit as a run without a stop
    assert [step for step, _ in done[0].reports] == [5, 15, 45]
    for t in result.trials:
        assert all(value == in_one_go(t.point, step) for step, value in t.reports)
        assert t.state == "done" or t.reason.split(" after ")[1] == str(t.reports[-1][0])
    first = sorted(result.trials, key=lambda t: t.reports[0][1])
    assert {t.number for t in first[:3]} == {t.number for t in result.trials if len(t.reports) > 1}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_who_goes_on_is_the_same_in_processes(direction):
    go = partial(ss.tune, signed, SPACE, direction=direction, **GO)
    here = go()
    assert facts(go(executor=2)) == facts(here)
    best = min(here.trials, key=lambda t: t.reports[0][1] * (1 if direction == "minimize" else -1))
    assert len(best.reports) > 1 and sum(t.state == "done" for t in here.trials) == 1


def signed(point, trial):
    return math.log10(point["lr"] / 0.03) ** 2 + 1 / trial.budget


def test_an_interrupted_search_goes_on_without_a_gradient_made_twice(tmp_path):
    log, kept, folder = (tmp_path / n for n in ("log", "runs", "checkpoints"))
    whole = ss.tune(partial(training, ""), SPACE, **GO)

    def pressed(point, trial):
        if trial.budget == 15 and len(log.read_text().splitlines()) == 10 and "once" not in seen:
            seen.append("once")
            os.kill(os.getpid(), signal.SIGINT)
        return training(str(log), point, trial)

    seen = []
    first = ss.tune(pressed, SPACE, storage=kept, checkpoints=folder, **GO)
    assert first.stopped.startswith("interrupted") and len(first.trials) == 9
    assert sum("interrupted" in t.reason for t in first.trials) > 0
    assert {t.state for t in first.trials} == {"stopped"}
    again = ss.tune(pressed, SPACE, storage=kept, checkpoints=folder, **GO)
    assert facts(again) == facts(whole)
    made = sum(int(line.split()[2]) for line in log.read_text().splitlines())
    assert made == 9 * 5 + 3 * 10 + 30
    last = ss.tune(pressed, SPACE, storage=kept, checkpoints=folder, **GO)
    assert last.trials == again.trials
    assert len(list(Path(folder).iterdir())) == 13


def test_the_first_run_is_at_the_prior():
    told = ss.tune(signed, SPACE, prior=0.02, **GO)
    plain = ss.tune(signed, SPACE, **GO)
    assert told.trials[0].point == {**plain.trials[0].point, "lr": 0.02}
    assert [t.point for t in told.trials[1:]] == [t.point for t in plain.trials[1:]]
    assert told.best["lr"] == 0.02


def test_what_is_lost_is_over_at_once():
    def lossy(point, trial):
        if point["lr"] > 0.1:
            return math.nan
        if point["momentum"] > 0.8:
            raise ValueError("no")
        return point["lr"] + 1 / trial.budget

    space = {"lr": ss.LogUniform(1e-3, 1.0), "momentum": ss.Uniform(0.0, 1.0)}
    with pytest.warns(RuntimeWarning, match="failed: ValueError: no"):
        result = ss.tune(lossy, space, trials=27, method="halving", budget=(1, 9))
    states = [t.state for t in result.trials]
    assert states.count("done") == 3 and {"diverged", "failed", "stopped"} < set(states)
    assert result.best["lr"] == min(t.point["lr"] for t in result.trials if len(t.reports) == 3)
    assert (
        ss.tune(lambda p, t: math.nan, space, trials=4, method="halving", budget=(1, 9)).best == {}
    )


def test_a_report_with_a_history_ends_what_diverges():
    def diverging(point, trial):
        loss = 1.0 if point["lr"] < 0.05 else 1.6
        losses = np.array([loss**k for k in range(1, 61)]) + 1.0
        rising = ss.History.from_arrays(step=np.arange(60), loss=losses, lr=np.full(60, 0.1))
        trial.report(60, losses[-1], rising)
        return losses[-1], rising

    told = ss.sweep(diverging, {"lr": [0.01, 0.1]})
    assert [t.state for t in told.trials] == ["done", "diverged"]
    assert told.trials[1].reason == "diagnosed as diverging at step 60"
    assert told.trials[1].verdict == "diverging" and told.trials[0].verdict not in ("", "diverging")
    assert "verdict" in told.table().splitlines()[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"budget": 9}, r"budget must be a pair \(least, most\) of steps or epochs, got 9"),
        ({"budget": (0, 9)}, r"budget\[0\] must be a whole number >= 1, got 0"),
        ({"budget": (9, 9)}, r"budget\[1\] must be a whole number >= 10, got 9"),
        (
            {"method": "random"},
            'budget goes with method="halving" and no pruner, got method=\'rand',
        ),
        ({"pruner": "off"}, 'budget goes with method="halving" and no pruner'),
        ({"objective": lambda p: 1.0}, r"takes two arguments, objective\(point, trial\)"),
        ({"budget": None, "checkpoints": "x"}, r"checkpoints are for runs with a budget="),
        ({"checkpoints": 3}, "checkpoints must be a path"),
    ],
)
def test_wrong_budgets_are_named(wrong, words):
    given = {"objective": signed, "space": SPACE, **GO, **wrong}
    with pytest.raises((TypeError, ValueError), match=words):
        ss.tune(**given)


def test_the_plot_tells_the_diagnosis_of_each_run():
    def trained(point):
        losses = 2.0 * np.exp(-point["lr"] * np.arange(300)) + 0.1
        history = ss.History.from_arrays(
            step=np.arange(300), loss=losses, lr=np.full(300, point["lr"])
        )
        return losses[-1], history

    told = ss.sweep(trained, {"lr": [1e-4, 1e-3, 1e-2, 0.1, 1.0]})
    verdicts = {t.verdict for t in told.trials}
    assert len(verdicts) > 1
    ax = told.plot()
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {verdict.replace("_", " ") for verdict in verdicts}
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "learning rate"
    assert list(told.to_pandas()["verdict"]) == [t.verdict for t in told.trials]
    empty = ss.sweep(lambda p: (p["lr"], ss.History()), {"lr": [0.1]})
    assert empty.trials[0].state == "done" and empty.trials[0].verdict == ""
    plain = ss.sweep(lambda p: p["width"], {"width": [16, 32, 1024]}).plot()
    assert plain.get_legend() is None and plain.get_xlabel() == "width"
    assert plain.get_xscale() == "log"
