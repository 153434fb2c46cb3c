"""What tries to break a search: exceptions, values, pipes, disks, grids and executors."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import pathlib
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

import stepsize as ss
from stepsize.collectives import RankError, Team
from stepsize.interop.mpi import LocalComm
from stepsize.tuning import sweeping

GRID = {"lr": [1, 2, 3]}


def rate(point):
    return float(point["lr"])


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Ends(BaseException):
    """What no run may keep for itself."""


def mute(point):
    raise Mute


ENDS = {
    "SystemExit": SystemExit,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "KeyboardInterrupt": KeyboardInterrupt,
    "Ends": Ends,
}


def ends(point):
    if point["lr"] == 2:
        raise ENDS[point["kind"]]
    return float(point["lr"])


def loky():
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(1, timeout=20)


class Inline(Executor):
    """The least that an executor can be: it runs each call as it is submitted."""

    def submit(self, function, *given):
        future = Future()
        future.set_result(function(*given))
        return future


EXECUTORS = {
    "here": None,
    "processes": 1,
    "threads": partial(ThreadPoolExecutor, 1),
    "loky": loky,
    "inline": Inline(),
}


@pytest.mark.parametrize("executor", [None, 1])
def test_an_exception_without_words_is_a_failed_run(executor):
    with pytest.warns(RuntimeWarning, match="run 0 failed: Mute, whose text fails"):
        told = ss.sweep(mute, {"lr": [1]}, executor)
    assert told.trials[0].state == "failed"
    with pytest.raises(Mute):
        ss.sweep(mute, {"lr": [1]}, executor, on_error="raise")


def test_an_exception_without_words_reaches_the_other_ranks():
    def program(comm):
        with pytest.raises((Mute, RankError)) as told, Team(comm).together("here"):
            if comm.rank:
                raise Mute
        return type(told.value).__name__

    assert LocalComm.run(2, program) == ["RankError", "Mute"]


@pytest.mark.parametrize("name", EXECUTORS)
def test_what_ends_a_run_and_what_ends_the_search_is_the_same_everywhere(name, tmp_path):
    executor, kinds = EXECUTORS[name], list(ENDS)
    grid = [{"lr": lr, "kind": kind} for kind in kinds[:4] for lr in (1, 2, 3)]
    with pytest.warns(RuntimeWarning, match=r"run 1 failed: SystemExit"):
        told = ss.sweep(ends, grid, executor)
    assert [t.state for t in told.trials] == [*(["done", "failed", "done"] * 3), "done"]
    assert [t.reason.split(":")[0] for t in told.trials if t.reason] == kinds[:3]
    assert told.stopped.startswith("interrupted by a KeyboardInterrupt of run 10 after 10 runs of")
    grid = [{"lr": lr, "kind": "Ends"} for lr in (1, 2, 3)]
    with pytest.raises(Ends) as raised:
        ss.sweep(ends, grid, executor, storage=tmp_path / "runs")
    assert raised.value.__notes__[-1] == "sweep: run 1 raised it"
    assert len((tmp_path / "runs").read_bytes().splitlines()) == 2


def test_a_first_run_that_raises_ctrl_c_leaves_nothing_to_return():
    with pytest.raises(KeyboardInterrupt):
        ss.sweep(ends, {"lr": [2, 3], "kind": ["KeyboardInterrupt"]})


def test_an_executor_that_is_shut_down_is_named_and_not_the_function():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match=r"sweep: the executor takes no calls \(cannot schedule"):
        ss.sweep(rate, GRID, pool)


@dataclass
class Layers:
    sizes: list


@pytest.mark.parametrize("make", [lambda: (np.zeros(1), [0]), lambda: Layers([0]), bytearray])
def test_a_run_changes_nothing_of_the_next(make):
    held = make()

    def greedy(point):
        own = point["held"]
        own = own[1] if isinstance(own, tuple) else getattr(own, "sizes", own)
        own.append(1)
        return float(len(own))

    told = ss.sweep(greedy, {"held": [held], "k": [1, 2, 3]})
    assert len({t.value for t in told.trials}) == 1


def endless():
    return ({"lr": k} for k in itertools.count())


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"lr": itertools.count()},
        endless,
        lambda: {"lr": range(40), "b": range(40)},
    ],
)
def test_a_grid_without_an_end_is_refused(make, monkeypatch):
    monkeypatch.setattr(sweeping, "MOST", 1000)
    with pytest.raises(ValueError, match=r"has more than 1,000 points; make several sweeps"):
        ss.sweep(rate, make())


def trained():
    x = np.ones(2)
    return ss.fit(lambda w, b: (1.0, w), x, ss.SGD(x), [None], steps=2, progress=True)


SHOWN = {
    "sweep": lambda: len(ss.sweep(rate, GRID, progress=True).trials),
    "fit": lambda: trained().steps + 1,
}


def closed_pipe():
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "w", buffering=1)


def closed_file():
    with pathlib.Path(os.devnull).open("w") as stream:
        return stream


class Gone:
    """A terminal that went away."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def write(self, *text):
        raise OSError(errno.EIO, "Input/output error")

    flush = write


@pytest.mark.parametrize("make", [closed_pipe, closed_file, lambda: None, Gone])
@pytest.mark.parametrize("name", SHOWN)
def test_progress_that_nobody_reads_ends_no_run(name, make, monkeypatch, capsys):
    stream = make()
    monkeypatch.setattr(sys, "stderr", stream)
    assert SHOWN[name]() == 3
    assert capsys.readouterr().out == ""
    if make is closed_pipe:
        with pytest.raises(BrokenPipeError):
            stream.close()


@pytest.mark.filterwarnings("ignore:.* was begun with function")
def test_a_disk_without_room_is_told_by_file_and_run_and_loses_none_before(tmp_path, monkeypatch):
    kept = tmp_path / "runs"
    open_file = pathlib.Path.open

    class Full:
        def __init__(self, stream):
            self._stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._stream.close()

        def fileno(self):
            return self._stream.fileno()

        def tell(self):
            return self._stream.tell()

        def write(self, data):
            if self._stream.tell() + len(data) > 500:
                self._stream.write(data[:11])
                raise OSError(errno.ENOSPC, "No space left on device")
            self._stream.write(data)

    def opened(path, *given, **more):
        stream = open_file(path, *given, **more)
        return Full(stream) if path == kept and stream.tell() else stream

    grid = {"lr": list(range(9))}
    monkeypatch.setattr(pathlib.Path, "open", opened)
    with pytest.raises(OSError, match="No space left") as told:
        ss.sweep(rate, grid, storage=kept)
    monkeypatch.undo()
    assert f"could not be kept in {kept}" in told.value.__notes__[0]
    count = kept.read_bytes().count(b"\n") - 1
    assert count > 0
    calls = []
    again = ss.sweep(lambda p: calls.append(p) or rate(p), grid, storage=kept)
    assert [t.value for t in again.trials] == list(range(9)) and len(calls) == 9 - count


@pytest.mark.parametrize("value", [10**400, 1 + 0j, np.array([1.0, 2.0]), {"loss": 1.0}, {1.0}])
def test_what_is_no_loss_is_refused_by_the_name_of_the_function(value):
    with pytest.warns(RuntimeWarning, match=r"objective must return one number.*see what .*lambda"):
        told = ss.sweep(lambda point: value, {"lr": [1]})
    assert told.trials[0].state == "failed"


@pytest.mark.parametrize("value", [np.float32(0.1), np.array(0.25), np.array([0.5]), np.float16(1)])
def test_numbers_of_numpy_are_numbers_and_kept_as_such(value, tmp_path):
    go = partial(ss.sweep, lambda point: value, {"lr": [1]}, storage=tmp_path / "runs")
    assert go().trials[0].value == float(np.ravel(value)[0])
    assert go().trials == go().trials
