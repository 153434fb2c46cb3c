"""Tuning: every method finds the valley, stops what is bad, and goes on where it was."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.samplers import next_rate
from stepsize.tuning.trials import Stopped, Trial

SPACE = {"lr": ss.LogUniform(1e-5, 10.0)}
METHODS = ("tpe", "random", "grid", "halving", "lr")


def valley(point):
    """Lowest, 1, at a rate of 0.03; lost above 1."""
    x = math.log10(point["lr"] / 0.03)
    return 1 + x * x if point["lr"] < 1 else math.inf


def curve(point, trial):
    value = valley(point)
    for step in range(10):
        trial.report(step, value + 1 / (1 + step))
    return value


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_valley(method):
    result = ss.tune(valley, SPACE, trials=24, method=method)
    assert len(result.trials) == 24
    assert result.best_value < 1.2
    assert valley(result.best) == result.best_value == min(t.value for t in result.trials)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_runs(method):
    space = {**SPACE, "momentum": ss.Uniform(0, 0.9), "rule": ss.Choice("sgd", "adam")}

    def points(seed):
        result = ss.tune(valley, space, trials=12, method=method, seed=seed)
        return [t.point for t in result.trials]

    assert points(1) == points(1)
    for point in points(2):
        assert 1e-5 <= point["lr"] <= 10 and 0 <= point["momentum"] <= 0.9
        assert point["rule"] in ("sgd", "adam")


def test_a_grid_is_a_grid():
    space = {"lr": ss.LogUniform(0.01, 1.0), "rule": ss.Choice("sgd", "adam")}
    result = ss.tune(valley, space, trials=6, method="grid")
    points = {(round(t.point["lr"], 9), t.point["rule"]) for t in result.trials}
    assert points == {(lr, rule) for lr in (0.01, 0.1, 1.0) for rule in ("sgd", "adam")}


def test_the_rate_method_needs_few_runs_with_a_prior():
    for start in (0.003, 0.03, 0.2):
        result = ss.tune(valley, SPACE, trials=5, method="lr", prior=start)
        assert result.trials[0].point["lr"] == pytest.approx(start)
        assert result.best_value < 1.03


def test_what_lr_find_returned_is_a_prior():
    def value_and_grad(p, batch):
        return float(p["x"] @ p["x"]), {"x": 2 * p["x"]}

    found = ss.lr_find(value_and_grad, {"x": np.ones(3)}, [None])
    result = ss.tune(valley, SPACE, trials=1, method="lr", prior=found)
    assert result.best["lr"] == pytest.approx(found.suggestion)


@pytest.mark.parametrize("method", METHODS)
def test_bad_runs_stop_early(method):
    result = ss.tune(curve, SPACE, trials=20, method=method, seed=3)
    stopped = [t for t in result.trials if t.state == "stopped"]
    done = [t for t in result.trials if t.state == "done"]
    assert stopped and done
    assert all(t.value == math.inf and len(t.reports) < 10 for t in stopped)
    assert result.best_value == min(t.value for t in done) < 1.5


def test_a_run_that_is_not_finite_has_diverged():
    def objective(point, trial):
        trial.report(0, math.nan)
        raise AssertionError("not reached")

    result = ss.tune(objective, SPACE, trials=2, method="random")
    assert [t.state for t in result.trials] == ["diverged", "diverged"]
    assert result.best_value == math.inf

    def raising(point):
        raise ss.NonFiniteGradientError("w at step 3")

    assert ss.tune(raising, SPACE, trials=1).trials[0].state == "diverged"


def test_other_exceptions_end_the_search_where_they_should():
    def broken(point):
        raise KeyError("typo")

    with pytest.raises(KeyError, match="typo"):
        ss.tune(broken, SPACE, trials=3, on_error="raise")


def never(point):
    raise AssertionError("nothing should have run")


@pytest.mark.parametrize("told", [None, "low", [1.0, 2.0]])
def test_an_objective_that_returns_no_number_is_told_what_to_return(told):
    with pytest.raises(TypeError, match="objective must return one number, it returned"):
        ss.tune(lambda point: told, SPACE, trials=1, method="random", on_error="raise")


@pytest.mark.parametrize("method", METHODS)
def test_a_search_goes_on_where_it_was(tmp_path, method):
    space = {**SPACE, "shape": ss.Choice((1, 2), (3, 4), "flat")}
    keywords = {"method": method, "storage": tmp_path / "search.db"}
    first = ss.tune(curve, space, trials=5, **keywords)
    whole = ss.tune(curve, space, trials=12, **keywords)
    assert whole.trials[: len(first.trials)] == first.trials
    assert len(first.trials) == (3 if method == "grid" else 5) and len(whole.trials) == 12
    assert len({t.point["lr"] for t in whole.trials}) > 5 or method == "grid"
    again = ss.tune(curve, space, trials=12, **keywords)
    assert again.trials == whole.trials
    other = (
        {"beta": ss.LogUniform(0.1, 1)},
        {**space, "beta": ss.Uniform(0, 1)},
        {"lr": space["lr"]},
    )
    narrow = {**space, "lr": ss.LogUniform(1e-9, 1e-8)}, {**space, "shape": ss.Choice("flat")}
    for spaces, words in ((other, "holds a search of .* not of "), (narrow, "which is not in ")):
        for wrong in spaces:
            with pytest.raises(ValueError, match=words):
                ss.tune(curve, wrong, trials=13, **keywords)
    with pytest.raises(FileNotFoundError):
        ss.tune(never, space, trials=2, method=method, storage=tmp_path / "missing" / "search")


def test_executors_run_trials_elsewhere():
    with ThreadPoolExecutor(3) as threads:
        result = ss.tune(curve, SPACE, trials=15, executor=threads)
    assert len(result.trials) == 15 and result.best_value < 2
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        result = ss.tune(abs_log, SPACE, trials=3, executor=processes)
    assert [t.value for t in result.trials] == [abs_log(t.point) for t in result.trials]


def abs_log(point):
    return abs(math.log(point["lr"]))


def test_the_result_reads_well():
    result = ss.tune(valley, SPACE, trials=6, method="grid")
    lines = str(result).splitlines()
    assert lines[0].split() == ["lr", "value", "state", "seconds"]
    assert lines[-2] == "6 runs: 5 done, 1 diverged"
    low, high = result.interval
    assert 1e-5 < low < result.best["lr"] < high < 1
    assert lines[-1] == f"best: lr={result.best['lr']:.4g} (as good from {low:.4g} to {high:.4g})"


def test_the_search_can_be_drawn():
    ax = ss.tune(curve, {**SPACE, "rule": ss.Choice("a", "b")}, trials=12, method="lr").plot()
    assert ax.get_xlabel() == "learning rate" and ax.get_xscale() == "log"
    assert any("best" in text.get_text() for text in ax.texts)
    assert ss.tune(lambda p: 1.0, {"a": ss.Choice(1, 2)}, trials=2).plot().get_xlabel() == "run"


def test_a_report_above_the_limit_of_its_step_leaves():
    trial = Trial({3: 1.0})
    trial.report(2, 9.0)
    trial.report(3, 1.0)
    with pytest.raises(Stopped):
        trial.report(3, 1.1)


@pytest.mark.parametrize("best", [1e-4, 3e-3, 0.3])
@pytest.mark.parametrize("cliff", [2.0, 1e9])
def test_the_rate_search_closes_in(best, cliff):
    tried = []
    for _ in range(14):
        rate = next_rate(1e-5, 10.0, tried, None)
        assert 1e-5 <= rate <= 10.0
        assert all(abs(math.log(rate / r)) > 1e-3 for r, _ in tried)
        lost = rate > cliff * best
        tried.append((rate, math.inf if lost else math.log(rate / best) ** 2))
    assert min(tried, key=lambda t: t[1])[0] == pytest.approx(best, rel=0.15)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"space": {}}, ValueError, "space is empty"),
        ({"space": {"lr": (1e-5, 1)}}, TypeError, r"space\['lr'\] must be Uniform"),
        ({"space": [1]}, TypeError, r"space must be a dict of names, .* got \[1\]"),
        ({"trials": 0}, ValueError, "trials must be a whole number >= 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be a whole number >= 0, got -1"),
        ({"executor": "x"}, TypeError, "executor='x' cannot run anything; an executor is None"),
        ({"executor": 0}, ValueError, "executor must be a whole number >= 1, got 0; an executor"),
        ({"executor": True}, ValueError, "executor must be a whole number >= 1, got True"),
        ({"executor": [2]}, ValueError, r"executor must be a whole number >= 1, got \[2\]"),
        ({"on_error": "skip"}, ValueError, "on_error must be one of 'record', 'raise'"),
        ({"retries": -1}, ValueError, "retries must be a whole number >= 0, got -1"),
        ({"threads": 0}, ValueError, "threads must be a whole number >= 1, got 0"),
        ({"pruner": "median"}, TypeError, "pruner must be 'auto', 'off' or a pruner of Optuna"),
        ({"progress": "x"}, TypeError, "progress must be True or False"),
        ({"method": "anneal"}, ValueError, "got 'anneal'"),
        ({"method": "lr", "space": {"x": ss.Uniform(0, 1)}}, ValueError, "needs a LogUniform"),
        ({"method": "grid", "trials": 1, "space": {"a": ss.Choice(1, 2)}}, ValueError, "2 choices"),
        ({"prior": -1.0, "method": "lr"}, ValueError, "prior must be a positive rate"),
    ],
)
def test_wrong_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        ss.tune(valley, **{"space": SPACE, "trials": 3, **wrong})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.Uniform(1, 1), "need low < high"),
        (lambda: ss.LogUniform(0, 1), "need 0 < low < high"),
        (lambda: ss.LogUniform(1e-3, math.inf), "both finite"),
        (lambda: ss.Choice(), "at least one option"),
    ],
)
def test_wrong_ranges_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("method", ["random", "grid", "halving", "lr"])
def test_only_the_model_needs_optuna(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert ss.tune(valley, SPACE, trials=4, method=method).best_value < math.inf
    with pytest.raises(ImportError, match=r'pip install "stepsize\[tune\]"'):
        ss.tune(valley, SPACE, trials=4, method="tpe")


def test_a_line_cut_short_is_taken_off(tmp_path):
    kept = tmp_path / "search"
    first = ss.tune(curve, SPACE, trials=4, method="random", storage=kept)
    kept.write_bytes(kept.read_bytes()[:-9])
    again = ss.tune(curve, SPACE, trials=4, method="random", storage=kept)
    assert again.trials[:3] == first.trials[:3] and len(again.trials) == 4
    assert [t.point for t in again.trials] == [t.point for t in first.trials]
    assert ss.tune(curve, SPACE, trials=4, method="random", storage=kept).trials == again.trials
    kept.write_bytes(b"SQLite format 3\n")
    with pytest.raises(ValueError, match="does not hold a search"):
        ss.tune(curve, SPACE, trials=4, method="random", storage=kept)


def test_a_grid_goes_on_with_the_points_that_are_missing(tmp_path):
    kept = tmp_path / "grid"
    whole = ss.tune(valley, SPACE, trials=6, method="grid", storage=kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:3] + lines[5:]))
    again = ss.tune(valley, SPACE, trials=6, method="grid", storage=kept)
    rates = sorted(t.point["lr"] for t in again.trials)
    assert rates == sorted(t.point["lr"] for t in whole.trials)
