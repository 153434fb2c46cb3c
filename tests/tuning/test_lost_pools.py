"""A pool that breaks loses all runs under way: only the one that breaks it counts as killed."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Future

import pytest

import stepsize as ss


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
