"""Sweeps and searches on threads, processes and loky: alike, and each run once whatever dies."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from stepsize.tuning.executors import Workers, processors

# One file goes from one function to another here, which a test of its own looks at.
pytestmark = pytest.mark.filterwarnings("ignore:.* was begun with function")

GRID = {"lr": [0.003, 0.01, 0.03, 0.1], "batch": [16, 32], "rule": ["sgd", "adam"]}
SPACE = {
    "lr": ss.LogUniform(1e-3, 1.0),
    "depth": ss.Uniform(1, 5, whole=True),
    "width": ss.LogUniform(8, 64, whole=True),
    "rule": ss.Choice("sgd", "adam", None),
}


def value(point):
    told = math.log10(point["lr"] / 0.02) ** 2 + 0.1 * (point["rule"] == "sgd")
    return told + abs(point.get("batch", point.get("width", 0)) - 32) / 64 + 0.1 / 3


def threads_of_worker(point):
    return ss.build_info()["threads"]


def die_once(marks, point):
    """Kills its process at one point, the first time."""
    mark = Path(marks) / "dead"
    if point["lr"] == 0.03 and point["batch"] == 32 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value(point)


def die(point):
    if point["lr"] == 0.03 and point["batch"] == 32:
        os.kill(os.getpid(), signal.SIGKILL)
    return value(point)


def fail(point):
    if point["lr"] > 0.05:
        raise KeyError("typo")
    return value(point)


class Lost(Exception):
    """Cannot be unpickled: its `__init__` takes other arguments than it gives on."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def fail_oddly(point):
    raise Lost(1, 2)


def loky():
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(2, timeout=60)


class Inline(Executor):
    """The least that an executor can be: it runs each call as it is submitted."""

    def submit(self, function, *given):
        future = Future()
        future.set_result(function(*given))
        return future


EXECUTORS = {
    "two processes": lambda: 2,
    "threads": lambda: partial(ThreadPoolExecutor, 3),
    "a class": lambda: ThreadPoolExecutor,
    "inline": lambda: Inline(),
    "a pool": lambda: partial(ProcessPoolExecutor, 2, get_context("spawn")),
    "loky": lambda: loky,
}


def facts(result):
    return [(t.number, t.point, t.value, t.state, t.reports) for t in result.trials]


@pytest.mark.parametrize("name", EXECUTORS)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_sweep_has_the_same_bits_on_every_executor(name, direction):
    here = ss.sweep(value, GRID, direction=direction)
    there = ss.sweep(value, GRID, EXECUTORS[name](), direction=direction)
    assert facts(there) == facts(here) and there.best == here.best
    assert [t.number for t in here.trials] == list(range(16))
    assert [t.point["rule"] for t in here.trials[:3]] == ["sgd", "adam", "sgd"]


@pytest.mark.parametrize("name", ["two processes", "a pool", "loky", "threads"])
@pytest.mark.parametrize("method", ["random", "grid"])
def test_a_search_has_the_same_points_on_every_executor(name, method):
    go = partial(ss.tune, value, SPACE, trials=24, method=method, seed=3, direction="maximize")
    here, there = go(), go(executor=EXECUTORS[name]())
    assert facts(there) == facts(here)
    assert all(type(t.point["depth"]) is int for t in there.trials)


@pytest.mark.parametrize("method", ["tpe", "halving", "lr"])
def test_methods_that_learn_run_on_processes_too(method):
    result = ss.tune(value, SPACE, trials=6, method=method, executor=2)
    assert [t.number for t in result.trials] == list(range(6))
    assert result.best_value == value(result.best) == min(t.value for t in result.trials)


@pytest.mark.parametrize("make", [lambda: 2, lambda: loky], ids=["two processes", "loky"])
def test_a_worker_that_dies_costs_no_run(make, tmp_path):
    result = ss.sweep(partial(die_once, str(tmp_path)), GRID, make())
    assert (tmp_path / "dead").exists()
    assert facts(result) == facts(ss.sweep(value, GRID))
    assert any("its worker was lost" in t.reason for t in result.trials)


def test_a_point_that_kills_its_worker_is_told_and_no_other(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"run \d+ was killed: at 3 attempts its worker was"):
        result = ss.sweep(die, GRID, 2, storage=tmp_path / "runs")
    killed = [t for t in result.trials if t.state == "killed"]
    assert [t.point["lr"] for t in killed] == [0.03, 0.03]
    assert all(t.point["batch"] == 32 for t in killed)
    assert len(result.trials) == 16 and len(killed) == 2
    assert "14 done, 2 killed" in str(result) and "at 3 attempts" in result.table()
    again = ss.sweep(value, GRID, storage=tmp_path / "runs")
    assert facts(again) == facts(result)


def test_a_broken_pool_of_the_user_ends_the_sweep_with_what_came_back(tmp_path):
    kept = tmp_path / "runs"
    told = pytest.warns(RuntimeWarning, match="was killed: its worker was lost")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, told:
        result = ss.sweep(die, GRID, pool, storage=kept)
    assert [t.state for t in result.trials] == ["done"] * 10 + ["killed"]
    assert result.stopped.startswith("the executor broke") and result.stopped in str(result)
    again = ss.sweep(value, GRID, storage=kept)  # the run that was lost is run now, no other again
    assert facts(again) == facts(ss.sweep(value, GRID)) and not again.stopped
    assert [t.seconds for t in again.trials[:10]] == [t.seconds for t in result.trials[:10]]


@pytest.mark.parametrize("executor", [None, 2])
def test_what_fails_is_a_record_with_its_reason(executor):
    with pytest.warns(RuntimeWarning, match=r"run 12 failed: KeyError: 'typo' \(test_executors.py"):
        result = ss.sweep(fail, GRID, executor)
    assert [t.state for t in result.trials] == ["done"] * 12 + ["failed"] * 4
    assert result.trials[-1].value == math.inf and result.best["lr"] < 0.05
    assert "KeyError: 'typo'" in result.table() and "12 done, 4 failed" in str(result)
    assert list(result.to_pandas()["reason"])[:12] == [""] * 12
    with pytest.raises(KeyError, match="typo") as caught:
        ss.sweep(fail, GRID, executor, on_error="raise")
    assert executor is None or "in a worker:" in caught.value.__notes__[0]


def test_an_exception_that_cannot_be_sent_is_told_in_words():
    with pytest.raises(RuntimeError, match="Lost: 1 and 2"):
        ss.sweep(fail_oddly, GRID, 1, on_error="raise")


def test_where_all_fail_the_best_says_why():
    line = test_where_all_fail_the_best_says_why.__code__.co_firstlineno + 4
    reason = f"ZeroDivisionError: division by zero (test_executors.py:{line})"
    with pytest.warns(RuntimeWarning, match="run 0 failed"):
        result = ss.sweep(lambda p: 1 / 0, {"lr": [0.1, 0.2]})
    assert result.best == {} and not math.isfinite(result.best_value)
    assert f"every run was lost; mend what ended the first: {reason}; with storage=" in str(result)
    assert str(result).endswith("retry_failed=True makes such runs again")
    with pytest.raises(KeyError, match="every run was lost, so there is no best lr: 2 failed, the"):
        result.best["lr"]
    with pytest.raises(KeyError, match="ZeroDivisionError"):
        result.best["lr"]


@pytest.mark.parametrize("wrong", [lambda p: 1.0, partial(lambda p: 1.0)], ids=["lambda", "part"])
def test_what_cannot_be_sent_is_refused_before_a_process_starts(wrong, monkeypatch):
    monkeypatch.setattr(Workers, "start", lambda *given: pytest.fail("it started"))
    for run in (partial(ss.sweep, wrong, GRID), partial(ss.tune, wrong, SPACE, trials=2)):
        with pytest.raises(TypeError, match=r"to another process .* at the top of a"):
            run(executor=2)
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        ss.sweep(value, {"lr": [0.1], "rule": [lambda: 1]}, 2)


class Breaks(ThreadPoolExecutor):
    """An executor that says only when it is asked that it cannot send something."""

    def submit(self, function, *given):
        future = Future()
        future.set_exception(AttributeError("Can't get local object"))
        return future


def test_what_only_the_executor_can_refuse_is_refused_in_words():
    with pytest.raises(TypeError, match=r"cannot be sent to another process \(AttributeError: Can"):
        ss.sweep(value, GRID, Breaks(1))


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        (object(), "executor must be a whole number >= 1, got <object .*; an executor is None"),
        (lambda: 3, r"executor\(\) made 3; an executor is None for this process"),
        (0, "executor must be a whole number >= 1, got 0"),
    ],
)
def test_what_is_no_executor_is_named(executor, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ss.sweep(value, GRID, executor)


def test_workers_share_the_processors():
    share = max(1, processors() // 2)
    assert {t.value for t in ss.sweep(threads_of_worker, GRID, 2).trials} == {share}
    assert {t.value for t in ss.sweep(threads_of_worker, GRID, 2, threads=1).trials} == {1}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert {t.value for t in ss.sweep(threads_of_worker, GRID, pool).trials} == {share}
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="threads=1 is for workers"):
        ss.sweep(threads_of_worker, GRID, pool, threads=1)


def test_calls_that_are_alike_are_told_apart():
    seen = []

    class Remembers(Inline):
        def submit(self, function, *given):
            seen.append(given)
            return super().submit(function, *given)

    ss.sweep(value, [{"lr": 0.1, "rule": "sgd"}] * 3, Remembers())
    ss.sweep(value, [{"lr": 0.1, "rule": "sgd"}] * 3, Remembers())
    tags = [given[-1] for given in seen if isinstance(given[-1], str)]
    assert len(tags) == 6 == len(set(tags))


def slow(point):
    time.sleep(0.05)
    return value(point)


@pytest.mark.parametrize("executor", [None, 2], ids=["here", "processes"])
def test_ctrl_c_keeps_what_came_back(executor, tmp_path):
    kept, count = tmp_path / "runs", []

    def press():
        while not (kept.exists() and kept.read_bytes().count(b"\n") >= 4):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    grid = {"lr": [0.01 + k / 1000 for k in range(200)], "rule": ["sgd"]}
    thread = threading.Thread(target=press)
    thread.start()
    result = ss.sweep(slow, grid, executor, storage=kept)
    thread.join()
    assert 3 <= len(result.trials) < 200 and result.stopped.startswith("interrupted after")
    assert result.stopped in str(result) and result.best["rule"] == "sgd"
    assert kept.read_bytes().count(b"\n") == len(result.trials) + 1

    def counting(point):
        count.append(point)
        return value(point)

    again = ss.sweep(counting, grid, storage=kept)
    assert facts(again) == facts(ss.sweep(value, grid))
    assert len(count) == 200 - len(result.trials)


def test_a_training_that_ctrl_c_cut_short_is_no_result():
    def training(point):
        def value_and_grad(params, batch):
            if point["lr"] == 0.2:
                os.kill(os.getpid(), signal.SIGINT)
            return 1.0, {"w": params["w"]}

        params = {"w": np.ones(2)}
        run = ss.fit(value_and_grad, params, ss.SGD(params), [None], steps=5, progress=False)
        return float(run["loss"][-1])

    result = ss.sweep(training, {"lr": [0.1, 0.2, 0.3]})
    assert [t.point["lr"] for t in result.trials] == [0.1]
    with pytest.raises(KeyboardInterrupt):
        ss.sweep(training, {"lr": [0.2, 0.3]})


def test_the_second_ctrl_c_raises_in_a_training_too():
    def value_and_grad(params, batch):
        if params["w"][0] < 1:  # not in the first step
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0, {"w": params["w"]}

    def training(point):
        params = {"w": np.ones(2)}
        opt = ss.SGD(params, lr=point["lr"])
        ss.fit(value_and_grad, params, opt, [None], steps=5, progress=False)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        ss.sweep(training, {"lr": [0.0, 0.2, 0.3]})


def test_the_second_ctrl_c_raises():
    def stubborn(point):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        ss.sweep(stubborn, {"lr": [0.1, 0.2]})


def test_a_sweep_without_failures_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ss.sweep(value, GRID, partial(ThreadPoolExecutor, 2)).best["batch"] == 32


def test_no_more_runs_are_sent_than_there_are_workers():
    running, most = [], []
    lock = threading.Lock()

    def counting(point):
        with lock:
            running.append(1)
            most.append(len(running))
        time.sleep(0.01)
        with lock:
            running.pop()
        return value(point)

    with ThreadPoolExecutor(3) as pool:
        ss.sweep(counting, GRID, pool)
        assert pool._work_queue.qsize() == 0
    assert max(most) <= 3
