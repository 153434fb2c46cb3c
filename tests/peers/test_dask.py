"""Sweeps on a Dask cluster of worker processes, one of which is killed on the way."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import distributed
import pytest

import stepsize as ss
from stepsize.tuning import executors

GRID = {"lr": [0.003, 0.01, 0.03, 0.1], "batch": [16, 32], "rule": ["sgd", "adam"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",  # any port: other clusters run beside it
        local_directory=str(tmp_path_factory.mktemp("dask")),
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def objective():
    """A function of this file that is sent by value: the workers need not find the file."""

    def value(point):
        import numpy as np

        weights = np.random.default_rng(point["batch"]).normal(size=64)
        for _ in range(20):
            weights -= point["lr"] * np.tanh(weights)
        time.sleep(0.01)
        return float(weights @ weights) + 0.1 * (point["rule"] == "sgd")

    return value


def killing(marks):
    """The same, whose process dies at one point, the first time."""
    value = objective()

    def killed_once(point):
        mark = Path(marks) / "dead"
        if point["lr"] == 0.03 and point["batch"] == 32 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value(point)

    return killed_once


def facts(result):
    return [(t.number, t.point, t.value, t.state, t.reports) for t in result.trials]


EXECUTORS = {
    "a client": lambda client: client,
    "its executor": lambda client: client.get_executor(pure=False),
    "a function": lambda client: partial(client.get_executor, pure=False),
}


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_sweep_has_the_same_bits(client, name):
    here = ss.sweep(objective(), GRID)
    there = ss.sweep(objective(), GRID, EXECUTORS[name](client))
    assert facts(there) == facts(here) and there.best == here.best


def test_a_worker_killed_on_the_way_costs_no_run(client, tmp_path):
    before = set(client.nthreads())
    here = ss.sweep(objective(), GRID)
    there = ss.sweep(killing(str(tmp_path)), GRID, client)
    assert (tmp_path / "dead").exists()
    assert facts(there) == facts(here) and there.best == here.best
    client.wait_for_workers(2, timeout=60)
    assert set(client.nthreads()) != before


def test_a_search_has_the_same_points_and_each_is_run_once(client, tmp_path):
    space = {
        "lr": ss.LogUniform(1e-3, 1.0),
        "batch": ss.Uniform(8, 64, whole=True),
        "rule": ss.Choice("sgd", "adam"),
    }
    go = partial(ss.tune, objective(), space, trials=12, method="random", direction="maximize")
    there = go(executor=client, storage=tmp_path / "runs")
    assert facts(there) == facts(go())
    assert go(executor=client, storage=tmp_path / "runs").trials == there.trials


def test_the_workers_are_counted_and_limited(client):
    def threads(point):
        return ss.build_info()["threads"]

    told = ss.sweep(threads, {"lr": [0.1, 0.2]}, client)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {t.value for t in told.trials} == {share}


def test_what_fails_there_is_told(client):
    def failing(point):
        return {}[point["lr"]]

    with pytest.warns(RuntimeWarning, match=r"run \d failed: KeyError"):
        told = ss.sweep(failing, {"lr": [0.1, 0.2]}, client)
    assert [t.state for t in told.trials] == ["failed", "failed"] or told.stopped
    with pytest.raises(KeyError):
        ss.sweep(failing, {"lr": [0.1]}, client, on_error="raise")


def test_what_cannot_be_sent_is_refused_in_words(client):
    lock = __import__("threading").Lock()
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        ss.sweep(lambda p: lock.locked(), GRID, client)


def test_a_thread_that_a_run_leaves_holds_up_no_sweep(client, tmp_path):
    def leaves(point):
        def outlast():
            (tmp_path / "began").touch()
            time.sleep(5)
            (tmp_path / "ended").touch()

        __import__("threading").Thread(target=outlast).start()
        return 1.0

    assert ss.sweep(leaves, {"lr": [0.1]}, client).best_value == 1.0
    assert (tmp_path / "began").exists() and not (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    "kind", ["SystemExit", "GeneratorExit", "KeyboardInterrupt", "BaseException"]
)
def test_what_is_no_exception_ends_a_run_or_the_search_and_no_worker(client, kind):
    def ends(point):
        if point["lr"] == 2:
            time.sleep(0.5)  # the first run comes back before
            raise __import__("builtins").__dict__[kind]("as it says")
        return float(point["lr"])

    go, before = partial(ss.sweep, ends, {"lr": [1, 2, 3]}), set(client.nthreads())
    if kind == "BaseException":
        with pytest.raises(BaseException, match="as it says"):
            go(client)
    elif kind == "KeyboardInterrupt":
        assert "KeyboardInterrupt of run 1 after" in go(client).stopped
    else:
        with pytest.warns(RuntimeWarning, match=f"run 1 failed: {kind}"):
            assert [t.state for t in go(client).trials] == ["done", "failed", "done"]
    assert set(client.nthreads()) == before


def test_a_cluster_without_workers_is_told_and_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "POLL", 0.02)
    monkeypatch.setattr(executors, "MOMENT", 0.02)
    told = []

    def warn(message, *given, **more):
        told.append(str(message))
        if "has no workers" in told[-1]:
            cluster.scale(1)

    monkeypatch.setattr("warnings.warn", warn)
    more = {"dashboard_address": "127.0.0.1:0", "local_directory": str(tmp_path)}
    with (
        distributed.LocalCluster(n_workers=0, processes=False, **more) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert ss.sweep(lambda p: p["lr"], {"lr": [1, 2]}, client).best_value == 1
    words = [one for one in told if "no run begins; start some, dask worker inproc://" in one]
    assert len(words) == 1
