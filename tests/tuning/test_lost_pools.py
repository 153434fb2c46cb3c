"""A pool that breaks loses all runs under way: only the one that breaks it counts as killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import get_context
from pathlib import Path

import pytest

import stepsize as ss
from processes import ended, runs
from stepsize.tuning import pools


class Pool:
    """Two workers, of which one that dies takes the other's run with it."""

    _max_workers = 2

    def __init__(self):
        self._waiting = []

    def submit(self, function, *given):
        future = Future()
        if len(given) < 3:  # the question where a worker is
            future.set_result(("elsewhere", 0))
        elif given[1].point["i"] == 0:
            for lost in (*self._waiting, future):
                lost.set_exception(BrokenExecutor("a worker died"))
        elif given[1].point["i"] == 1 and not self._alone(given[1]):
            self._waiting.append(future)
        else:
            future.set_result(function(*given))
        return future

    def _alone(self, order):
        seen.append(order.number)
        return seen.count(order.number) > 1


seen = []


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_only_the_run_that_breaks_the_pool_is_killed(retries, tmp_path):
    seen.clear()
    grid = {"i": [1, 0, 2, 3]}
    with pytest.warns(RuntimeWarning, match="run 1 was killed"):
        told = ss.sweep(lambda p: p["i"], grid, Pool, retries=retries, storage=tmp_path / "runs")
    assert [t.state for t in told.trials] == ["done", "killed", "done", "done"]


def test_points_may_come_from_a_generator():
    told = ss.sweep(lambda p: p["i"], ({"i": k} for k in range(3)))
    assert [t.value for t in told.trials] == [0, 1, 2]


def outlast(mark):
    """Goes on for a while after its run, and leaves a mark where nobody ended it."""
    mark.with_suffix(f".{os.getpid()}").touch()
    time.sleep(20)
    mark.touch()


def leave(point):
    mark = Path(point["folder"]) / point["left"]
    if point["left"] == "thread":
        threading.Thread(target=outlast, args=(mark,)).start()
    else:
        get_context("fork").Process(target=outlast, args=(mark,)).start()
    while not list(mark.parent.glob(f"{mark.name}.*")):
        time.sleep(0.01)
    return 1.0


def loky():
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(2)


@pytest.mark.parametrize("executor", [2, loky], ids=["processes", "loky"])
def test_what_a_run_leaves_in_its_worker_is_waited_for_and_ended(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "GRACE", 0.1)
    monkeypatch.setattr(pools, "PATIENCE", 0.1)
    # A child that a run left in loky is the run's own: the worker alone is ended.
    kinds = ["thread", "child"] if executor == 2 else ["thread"]
    with pytest.warns(
        RuntimeWarning, match="sweep: all runs are done, but a worker did not end in"
    ):
        told = ss.sweep(leave, {"left": kinds, "folder": [str(tmp_path)]}, executor)
    assert {t.value for t in told.trials} == {1.0}
    assert not [kind for kind in kinds if (tmp_path / kind).exists()]
    assert ended([int(mark.suffix[1:]) for mark in tmp_path.iterdir()])


DRIVER = """
import multiprocessing, os, sys, time
import stepsize as ss

def slow(point=None):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    if point is not None and point["i"] == 0:
        multiprocessing.get_context("fork").Process(target=slow).start()
    time.sleep(600)

if __name__ == "__main__":
    ss.sweep(slow, {"i": [0, 1]}, 2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_driver(number, tmp_path):
    script, marks = tmp_path / "driver.py", tmp_path / "marks"
    script.write_text(DRIVER)
    marks.mkdir()
    driver = subprocess.Popen([sys.executable, str(script), str(marks)])
    while len(list(marks.iterdir())) < 3:  # two workers, and the child of one
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(number)
    assert driver.wait() == -number
    workers = [int(mark.name) for mark in marks.iterdir()]
    try:
        assert ended(workers)
    finally:
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)
