"""A search that goes on: with what it was begun, over another grid, and with runs made again."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial

import optuna
import pytest

import stepsize as ss
from stepsize.serialization.functions import code_digest
from stepsize.training.resume import ResumeWarning
from stepsize.tuning.origin import function_name

GRID = {"lr": [1, 2, 3, 4]}
SPACE = {"lr": ss.LogUniform(1.0, 4.0)}
broken: set[str] = set()


def rate(point):
    if broken:
        raise OSError("the disk is away")
    return float(point["lr"])


def other(point):
    return -float(point["lr"])


def scaled(point, factor=1.0):
    return factor * point["lr"]


def budgeted(point, trial):
    if "budgeted" in broken and trial.number in (1, 4):
        raise OSError("the disk is away")
    return abs(math.log(point["lr"])) + 1 / trial.budget


STORAGES = {
    "file": lambda folder: folder / "runs.jsonl",
    "url": lambda folder: f"sqlite:///{folder / 'runs.db'}",
}


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    return STORAGES[request.param](tmp_path)


def test_the_first_line_says_what_search_it_is(tmp_path):
    ss.tune(rate, SPACE, trials=1, method="random", seed=3, storage=tmp_path / "a")
    ss.sweep(rate, GRID, direction="maximize", storage=tmp_path / "b")
    first = [json.loads((tmp_path / n).read_text().splitlines()[0]) for n in "ab"]
    rest = {"budget": None, "function": f"{__name__}.rate", "code": code_digest(rate)}
    random = {"stepsize": "search", "method": "random", "seed": 3, "direction": "minimize"}
    swept = {"stepsize": "search", "method": "sweep", "seed": None, "direction": "maximize"}
    assert first == [random | rest, swept | rest]


def search(function=rate, method="random", **more):
    return ss.tune(function, SPACE, **{"trials": 3, "method": method, **more})


OTHER = {
    "seed": (partial(search, seed=1), "tune: .* with seed 0, and this search has seed 1;"),
    "method": (partial(search, method="lr"), "with method random, and this search has method lr;"),
    "function": (partial(search, other), r"with function .*\.rate, and .* function .*\.other;"),
    "partial": (partial(search, partial(scaled, factor=2)), r"function .*scaled\(factor=2\)"),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_search_of_another_is_warned_of_by_name(name, storage):
    known = search(storage=storage)
    go, words = OTHER[name]
    with pytest.warns(ResumeWarning, match=words):
        assert go(storage=storage).trials == known.trials
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(storage=storage, trials=4).trials[:3] == known.trials


def power(exponent, calls=()):
    def objective(point):
        """The rate to a power."""
        if isinstance(calls, list):
            calls.append(point)
        return objective(point, 1) if exponent is None else point["lr"] ** exponent

    return objective


def power_again(exponent):
    def objective(point):
        """In other words."""
        if isinstance(calls, list):
            calls.append(point)
        return objective(point, 1) if exponent is None else point["lr"] ** exponent

    calls = []
    objective.__qualname__ = power(1).__qualname__
    return objective


LAMBDAS = {
    "lambdas": (lambda p: p["lr"], lambda p: 2 * p["lr"]),
    "constants": (lambda p: p["lr"] * 2, lambda p: p["lr"] * 3),
    "sets": (lambda p: p["lr"] in {1, 2}, lambda p: p["lr"] in {1, 3}),
    "inner": (lambda p: max([1], key=lambda k: k), lambda p: max([1], key=lambda k: -k)),
    "closures": (power(1), power(2)),
    "defaults": (lambda p, k=1: k * p["lr"], lambda p, k=2: k * p["lr"]),
    "of functions": (power(abs), power(len)),
}


@pytest.mark.parametrize("name", LAMBDAS)
def test_another_function_of_the_same_name_is_told_by_its_code(name, storage):
    one, two = LAMBDAS[name]
    assert function_name(one) == function_name(two)
    first, second = code_digest(one), code_digest(two)
    assert first != second and "" not in (first, second)
    if name == "lambdas":
        known = search(one, storage=storage)
        words = rf"<lambda> of code {first[-12:]}, and .*<lambda> of code {second[-12:]};"
        with pytest.warns(ResumeWarning, match=words):
            assert search(two, storage=storage).trials == known.trials


def test_the_same_code_elsewhere_is_the_same_function():
    assert code_digest(power(2, [])) == code_digest(power(2, [1]))
    assert code_digest(power(2, [])) == code_digest(power_again(2))
    assert code_digest(partial(scaled, factor=2)) == code_digest(partial(scaled, factor=2))
    assert code_digest(partial(scaled, factor=2)) != code_digest(partial(scaled, factor=3))
    assert code_digest(len) == ""


def test_the_code_of_another_python_says_nothing(tmp_path):
    kept = tmp_path / "runs"
    search(storage=kept)
    tag = code_digest(rate).partition(" ")[0]
    kept.write_text(kept.read_text().replace(tag, "cpython-37-0"))
    assert len(search(other_code, trials=4, storage=kept).trials) == 4


def other_code(point):
    return rate(point) + 1


other_code.__qualname__ = "rate"


def test_another_direction_is_refused_and_so_are_other_rungs(storage, tmp_path):
    search(storage=storage)
    kept = tmp_path / "runs.jsonl"
    before = kept.read_bytes() if kept.exists() else b""
    with pytest.raises(ValueError, match=r"tune: direction='maximize', but .*minimize"):
        search(storage=storage, direction="maximize")
    halving = partial(search, budgeted, method="halving", storage=storage)
    with pytest.raises(ValueError, match=r"budget=\[1, 9\], but .* budget=None; give that budget"):
        halving(budget=(1, 9))
    assert (kept.read_bytes() if kept.exists() else b"") == before


def test_a_file_of_before_that_tells_no_direction_has_no_best_that_was_lost(tmp_path):
    kept = tmp_path / "runs.jsonl"
    line = {"point": {"lr": 1.5}, "reports": [], "seconds": 0.1}
    lines = [
        {"stepsize": "search"},
        {**line, "value": -math.inf, "state": "diverged", "number": 0},
        {**line, "value": 2.0, "state": "done", "number": 1},
    ]
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = search(trials=2, storage=kept)
    assert told.best == {"lr": 1.5} and told.trials[0].value == math.inf


def test_a_grown_grid_is_told_in_its_order_and_a_lesser_one_alone(tmp_path):
    calls = []

    def counting(point):
        calls.append(point["lr"])
        return float(point["lr"])

    go = partial(ss.sweep, counting, storage=tmp_path / "runs")
    go({"lr": [2, 4]})
    assert [t.point["lr"] for t in go({"lr": [1, 2, 3, 4]}).trials] == [1, 2, 3, 4]
    pairs = [{"lr": lr, "b": b} for lr in (1, 2) for b in (1, 2)]
    go = partial(ss.sweep, counting, storage=tmp_path / "pairs")
    go(pairs[:3])
    told = go([pairs[0], pairs[2], pairs[3]])
    assert [t.point for t in told.trials] == [pairs[0], pairs[2], pairs[3]]
    assert calls == [2, 4, 1, 3, 1, 1, 2, 2]
    assert [t.point for t in go(pairs).trials] == pairs and len(calls) == 8


def test_what_is_refused_is_said_in_the_words_of_the_caller(storage):
    ss.sweep(rate, GRID, storage=storage)
    for grid in ({"lr": [1, 2]}, {"lr": [1, 2, 3, 4, 5]}, {"rate": [1]}, {"lr": [object()]}):
        try:
            ss.sweep(rate, grid, storage=storage)
        except (TypeError, ValueError) as error:
            told = str(error)
            assert told.startswith("sweep: ") and "Listed" not in told and "space" not in told
            assert "Categorical" not in told
    with pytest.raises(ValueError, match=r"which is not .*one of 1, 2; .* for this grid"):
        ss.sweep(rate, {"lr": [1, 2]}, storage=storage)


METHODS = ("random", "grid", "tpe", "lr", "halving")


def states(result):
    return [t.state for t in result.trials]


@pytest.mark.filterwarnings("ignore:tune. run")
@pytest.mark.parametrize("method", METHODS)
def test_runs_that_failed_are_made_again_at_their_points(method, storage):
    broken.add("all")
    try:
        lost = search(method=method, trials=4, storage=storage)
    finally:
        broken.clear()
    assert set(states(lost)) == {"failed"}
    kept = search(method=method, trials=4, storage=storage)
    assert kept.trials == lost.trials
    again = search(method=method, trials=4, storage=storage, retry_failed=True)
    assert [t.point for t in again.trials] == [t.point for t in lost.trials]
    assert states(again) == ["done"] * 4
    assert search(method=method, trials=4, storage=storage).trials == again.trials
    assert len(search(method=method, trials=6, storage=storage).trials) == 6


@pytest.mark.filterwarnings("ignore:sweep. run")
def test_a_sweep_makes_lost_runs_again_and_no_other(storage):
    def some(point):
        if broken and point["lr"] in (2, 3):
            raise OSError("the disk is away")
        calls.append(point["lr"])
        return float(point["lr"])

    calls = []
    go = partial(ss.sweep, some, GRID, storage=storage)
    broken.add("some")
    try:
        assert states(go()) == states(go(retry_failed=True)) == ["done", "failed", "failed", "done"]
    finally:
        broken.clear()
    told = go(retry_failed=True)
    assert [t.value for t in told.trials] == [1, 2, 3, 4] and calls == [1, 4, 2, 3]
    assert go(retry_failed=True).trials == told.trials and len(calls) == 4


@pytest.mark.filterwarnings("ignore:tune. run")
def test_halving_makes_lost_runs_again(tmp_path):
    go = partial(search, budgeted, "halving", trials=9, budget=(1, 9), checkpoints=tmp_path / "c")
    whole = go()
    broken.add("budgeted")
    try:
        assert states(go(storage=tmp_path / "runs")).count("failed") == 2
    finally:
        broken.clear()
    again = go(storage=tmp_path / "runs", retry_failed=True)
    assert [t.point for t in again.trials] == [t.point for t in whole.trials]
    assert "failed" not in states(again)
    assert go(storage=tmp_path / "runs").trials == again.trials


@pytest.mark.filterwarnings("ignore:tune. run")
def test_a_run_that_optuna_lost_is_made_again_once():
    study = optuna.create_study()

    def failing(trial):
        trial.suggest_float("lr", 1.0, 4.0, log=True)
        raise OSError("the disk is away")

    study.optimize(failing, n_trials=1, catch=OSError)
    told = search(storage=study, retry_failed=True)
    assert states(told) == ["done"] * 3
    assert told.trials[0].point == study.trials[0].params
    assert search(storage=study, retry_failed=True).trials == told.trials


def test_an_interruption_keeps_what_lost_runs_came_to(tmp_path):
    def some(point):
        if broken:
            raise OSError("the disk is away")
        if point["lr"] == 3:
            raise KeyboardInterrupt
        return float(point["lr"])

    broken.add("all")
    try:
        with pytest.warns(RuntimeWarning, match="run 0 failed"):
            ss.sweep(some, GRID, storage=tmp_path / "runs")
    finally:
        broken.clear()
    ended = ss.sweep(some, GRID, storage=tmp_path / "runs", retry_failed=True)
    assert states(ended)[:2] == ["done", "done"]
    assert states(ss.sweep(rate, GRID, storage=tmp_path / "more")) == ["done"] * 4
    with pytest.warns(ResumeWarning, match="function"):
        told = ss.sweep(rate, GRID, storage=tmp_path / "runs")
    assert states(told) == ["done", "done", "failed", "failed"]


def test_a_function_is_called_by_its_module_and_qualified_name():
    assert function_name(rate) == f"{__name__}.rate"
    assert function_name(partial(rate, 1, x=[2])) == f"{__name__}.rate(1, x=[2])"
    assert function_name(partial(rate, object())) == f"{__name__}.rate(...)"
    assert function_name([].append) == "builtins.list.append" or "append" in function_name(
        [].append
    )


@pytest.mark.parametrize("told", [None, "low", [1.0, 2.0]])
def test_what_is_no_number_is_told_of_the_function_and_of_no_line_of_ours(told):
    def objective(point):
        return told

    with pytest.warns(RuntimeWarning, match=r"sweep: objective must .*objective returns;"):
        result = ss.sweep(objective, {"lr": [1]})
    reason = result.trials[0].reason
    assert ".py" not in reason and repr(told) in reason
    assert reason.endswith("test_what_is_no_number_is_told_of_the_function_and_of_no_line_of_ours"
                           ".<locals>.objective returns")  # fmt: skip


def test_a_last_line_that_lost_its_end_alone_is_a_run(tmp_path):
    kept = tmp_path / "runs"
    expected = ss.sweep(rate, GRID, storage=kept).trials
    kept.write_bytes(kept.read_bytes()[:-1])
    made = []

    def counted(point):
        made.append(point)
        return rate(point)

    with pytest.warns(ResumeWarning):
        assert ss.sweep(counted, GRID, storage=kept).trials == expected and not made
        more = ss.sweep(counted, {"lr": [*GRID["lr"], 9.0]}, storage=kept)
    assert len(made) == 1 and len(more.trials) == len(expected) + 1
    assert len(kept.read_text().splitlines()) == len(expected) + 2
