"""tune and what users ask of it: whole numbers, ranges, maxima, pools, searches without an end."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

import stepsize as ss

METHODS = ("tpe", "random", "grid", "halving", "lr")
LR = {"lr": ss.LogUniform(1e-4, 1.0)}


def hill(point):
    return 1 - math.log10(point["lr"] / 0.03) ** 2


def curve(point, trial, sign=1):
    for step in range(6):
        trial.report(step, sign * (hill(point) - 1 / (1 + step)))
    return sign * hill(point)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", [hill, curve])
def test_to_maximize_is_to_minimize_the_negative(method, objective, tmp_path):
    def negative(*given):
        return -hill(*given) if objective is hill else curve(*given, sign=-1)

    if objective is curve:

        def negative(point, trial):
            return curve(point, trial, -1)

    kept = tmp_path / "runs"
    up = ss.tune(objective, LR, trials=14, method=method, direction="maximize", storage=kept)
    down = ss.tune(negative, LR, trials=14, method=method)
    assert [t.point for t in up.trials] == [t.point for t in down.trials]
    assert [t.state for t in up.trials] == [t.state for t in down.trials]
    assert [t.value for t in up.trials] == [-t.value for t in down.trials]
    assert up.best == down.best and up.best_value == -down.best_value == hill(up.best)
    assert up.interval == down.interval or math.isnan(up.interval[0])
    assert str(up).splitlines()[-1] == str(down).splitlines()[-1]
    again = ss.tune(objective, LR, trials=14, method=method, direction="maximize", storage=kept)
    assert again.trials == up.trials
    assert up.plot() is not None


@pytest.mark.parametrize("method", METHODS)
def test_whole_numbers_are_whole(method, tmp_path):
    space = {
        **LR,
        "depth": ss.Uniform(1, 4, whole=True),
        "width": ss.LogUniform(4, 64, whole=True),
        "every": range(10, 50, 15),
        "down": range(5, 0, -2),
        "one": range(3, 4),
    }
    seen = []

    def objective(point):
        seen.append(point)
        return (point["depth"] - 3) ** 2 + abs(point["width"] - 16) + point["every"] / 100

    keywords = {"trials": 40, "method": method, "storage": tmp_path / "runs"}
    result = ss.tune(objective, space, **keywords)
    for point in seen:
        whole = {name: value for name, value in point.items() if name != "lr"}
        assert all(type(value) is int for value in whole.values())
        assert 1 <= point["depth"] <= 4 and 4 <= point["width"] <= 64
        assert point["every"] in (10, 25, 40) and point["down"] in (1, 3, 5) and point["one"] == 3
    if method != "grid":
        assert {p["depth"] for p in seen} == {1, 2, 3, 4}
        assert {p["every"] for p in seen} == {10, 25, 40}
    assert ss.tune(objective, space, **keywords).trials == result.trials
    assert type(result.best["depth"]) is int


def test_a_grid_of_whole_numbers_has_each_once():
    result = ss.tune(lambda p: p["n"], {"n": range(1, 4)}, trials=3, method="grid")
    assert sorted(t.point["n"] for t in result.trials) == [1, 2, 3]
    assert ss.LogUniform(1, 8, whole=True).grid(4) == [1, 2, 4, 8]


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(
    ("space", "points"),
    [
        ({"n": range(1, 8)}, 7),
        ({"n": ss.LogUniform(1, 3, whole=True), "m": ss.Uniform(0, 1, whole=True)}, 6),
        ({"rule": ss.Choice("sgd", "adam")}, 2),
        ({"lr": ss.LogUniform(0.1, 1.0), "rule": ss.Choice("sgd", "adam")}, 20),
        ({"lr": ss.LogUniform(0.1, 1.0), "momentum": ss.Uniform(0.0, 0.9)}, 16),
    ],
)
def test_a_grid_ends_with_its_last_point(space, points, workers, tmp_path):
    def go(**more):
        return ss.tune(lambda p: 1.0, space, trials=20, method="grid", **more)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        result = go(executor=pool if workers else None, storage=tmp_path / "runs")
    told = [tuple(t.point.values()) for t in result.trials]
    assert len(told) == len(set(told)) == points
    assert go(storage=tmp_path / "runs").trials == result.trials


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("method", ["grid", "random"])
@pytest.mark.parametrize(
    "values",
    [
        ss.Uniform(1, 9, whole=True),
        range(1, 40, 3),
        range(9, -9, -2),
        ss.LogUniform(1, 64, whole=True),
    ],
)
def test_the_interval_of_whole_numbers_has_whole_ends_around_the_best(values, method, direction):
    sign = 1 if direction == "minimize" else -1
    for middle in (-3, 1, 5, 7, 60):
        result = ss.tune(
            lambda p, m=middle: sign * (p["n"] - m) ** 2,
            {"n": values},
            trials=14,
            method=method,
            direction=direction,
        )
        low, high = result.interval
        assert type(low) is int and type(high) is int
        assert low <= result.best["n"] <= high
        span = result.space["n"]
        assert span.nearest(low) == low and span.nearest(high) == high
        ended = sorted({t.point["n"] for t in result.trials})
        assert low >= ended[0] and high <= ended[-1]
        assert (f"(as good from {low} to {high})" in str(result)) == (low < high)
        ticks = result.plot().get_xticks()
        assert isinstance(values, ss.LogUniform) or all(tick == int(tick) for tick in ticks)


def test_runs_at_one_place_do_not_cut_the_interval_short():
    told = iter(np.random.default_rng(0).normal(0, 0.04, 60))
    result = ss.tune(
        lambda p: float(abs(p["n"] - 4) > 1) + next(told),
        {"n": range(1, 8)},
        trials=60,
        method="random",
    )
    assert result.interval == (3, 5)


def test_what_is_no_number_has_no_interval():
    for space in ({"a": ss.Choice(0.1, "b")}, {"a": ss.Choice(1, 2)}, {"a": ss.Choice("x", "y")}):
        result = ss.tune(lambda p: 1.0, space, trials=2, method="grid")
        assert math.isnan(result.interval[0]) and result.plot() is not None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_search_that_comes_to_nothing_says_so_and_has_no_best(direction, lost):
    result = ss.tune(lambda p: lost, LR, trials=3, method="random", direction=direction)
    assert not result.best and result.best == {}
    assert not math.isfinite(result.best_value)
    assert str(result).splitlines()[-1].startswith("no best point: every run was lost")
    assert "no best point" in repr(result) and "best: lr" not in str(result)
    with pytest.raises(KeyError, match="every run was lost, so there is no best lr"):
        result.best["lr"]
    assert result.plot() is not None
    assert len(result.to_pandas()) == 3


def test_an_objective_may_change_its_point():
    def greedy(point):
        point["layers"].append(7)
        return point.pop("lr")

    space = {**LR, "layers": ss.Choice([1], [2, 3])}
    result = ss.tune(greedy, space, trials=4, method="random")
    assert all(set(t.point) == {"lr", "layers"} for t in result.trials)
    assert all(7 not in t.point["layers"] for t in result.trials)
    assert space["layers"].options == ([1], [2, 3])


def test_what_cannot_be_sent_to_a_process_is_refused_before_it_is_sent():
    def local(point):
        return 1.0

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for objective in (lambda p: 1.0, local, partial(local)):
            with pytest.raises(TypeError, match="define it with def at the top of a module"):
                ss.tune(objective, LR, trials=2, method="random", executor=pool)
        result = ss.tune(hill, LR, trials=2, method="random", executor=pool, direction="maximize")
    assert result.best_value == hill(result.best)
    with ThreadPoolExecutor(2) as threads:
        assert len(ss.tune(lambda p: 1.0, LR, trials=4, executor=threads).trials) == 4


def test_the_repr_is_one_line_and_the_table_a_frame():
    result = ss.tune(curve, {**LR, "rule": ss.Choice("sgd", "adam")}, trials=6, method="random")
    assert "\n" not in repr(result) and len(repr(result)) < 120
    frame = result.to_pandas()
    assert list(frame.columns) == [
        *("lr", "rule", "value", "state", "seconds", "reason", "verdict")
    ]
    assert len(frame) == 6


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"objective": None}, "objective must be a function of a point"),
        ({"space": None}, "space must be a dict of names"),
        ({"space": {"n": range(0)}}, "holds no number"),
        ({"space": {"n": [1, 2]}}, r"write ss.Choice\(...\)"),
        ({"space": {"n": 3}}, r"space\['n'\] must be Uniform, LogUniform, Choice or a range"),
        ({"trials": "x"}, "trials must be a whole number"),
        ({"trials": math.nan}, "trials must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"method": None}, "method must be one of"),
        ({"direction": "up"}, "direction must be one of 'minimize', 'maximize', got 'up'"),
        ({"prior": "x"}, "prior must be a positive rate"),
        ({"method": "lr", "space": {"n": ss.LogUniform(1, 8, whole=True)}}, "needs a LogUniform"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    given = {"objective": hill, "space": LR, "trials": 2, "method": "random", **wrong}
    with pytest.raises((TypeError, ValueError), match=words):
        ss.tune(**given)


@pytest.mark.parametrize("make", [ss.Uniform, ss.LogUniform])
@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (("a", 1), "low must be a number, got 'a'"),
        ((1, None), "high must be a number, got None"),
        ((1, math.nan), "high must be"),
        ((math.nan, 1), "low must be"),
        ((2, 1), "low < high"),
        ((True, 3), "low must be a number"),
    ],
)
def test_wrong_ends_are_named(make, ends, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make(*ends)


def test_whole_ends_and_steps_are_checked():
    with pytest.raises(ValueError, match=r"whole=True needs whole ends, got 0\.5"):
        ss.Uniform(0.5, 3, whole=True)
    with pytest.raises(ValueError, match="step=2 goes with whole=True"):
        ss.Uniform(0, 4, step=2)
    with pytest.raises(TypeError, match="whole must be True or False"):
        ss.LogUniform(1, 4, whole=1)


@pytest.mark.parametrize("given", [("x", 1.0), (1, "x"), (None, 1.0)])
def test_reports_that_are_no_numbers_are_named(given):
    with pytest.raises(TypeError, match=r"Trial.report: (step|value) must be"):
        ss.tune(
            lambda point, trial: trial.report(*given),
            LR,
            trials=1,
            method="random",
            on_error="raise",
        )
    assert np.isfinite(hill({"lr": 0.1}))
