"""Saves and runs that are failed, shortened and killed at chosen moments.

Run in a process of its own with the shim preloaded; prints what was tried, exits badly on a loss.
"""

import ctypes
import errno
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
import stepsize as ss
from sessions import Session
from stepsize.serialization import container

KILL, SHORT = -1, -2
shim = ctypes.CDLL(None)
shim.fault_name.restype = ctypes.c_char_p


def calls_of(action, folder, at=0, kind=0):
    """Run an action with the fault armed; the calls it made, and the error it raised."""
    error = None
    shim.fault_arm(str(folder).encode(), at, kind)
    try:
        action()
    except OSError as raised:
        error = raised
    finally:
        seen = shim.fault_disarm()
    return [shim.fault_name(n).decode() for n in range(1, seen + 1)], error


def contents(path):
    tensors, meta = container.read(path)
    return meta["version"], {name: array.tobytes() for name, array in tensors.items()}


def example(version):
    rng = np.random.default_rng(version)
    return {"w": rng.normal(size=50_000), "b": rng.normal(size=3)}, {"version": version}


def fail_every_call(folder):
    """Each call of a save fails in each way: old or new file whole, the error told, no leftover."""
    path = folder / "file"
    container.write(path, *example(0))
    old = contents(path)
    calls, error = calls_of(lambda: container.write(path, *example(1)), folder)
    new = contents(path)
    assert error is None and new != old
    rename = calls.index("rename") + 1
    # The bytes reach the disk before they get the name, and the name after it.
    assert calls[rename - 3 :] == ["fsync", "close", "rename", "open", "fsync", "close"], calls
    for kind in (errno.ENOSPC, errno.EIO, errno.EACCES, SHORT):
        for at in range(1, len(calls) + 1):
            container.write(path, *example(0))
            _, error = calls_of(lambda: container.write(path, *example(1)), folder, at, kind)
            where = f"{calls[at - 1]} (call {at}) fails with {kind}"
            assert contents(path) == (old if at <= rename and error else new), where
            assert os.listdir(folder) == ["file"], where
            if kind == SHORT:
                assert error is None, where
            elif error is not None:
                assert error.errno == kind, where
            else:
                # Only looking for leftovers may fail without a word.
                assert at < calls.index("write"), where
    print(f"{len(calls)} calls of a save, each failed in 4 ways")


def in_child(action):
    """Run in a forked child; its exit status."""
    child = os.fork()
    if not child:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def kill_every_call(folder):
    """SIGKILL at each call of a save: the old or the new file, and the next save tidies up."""
    path = folder / "file"
    container.write(path, *example(0))
    old = contents(path)
    calls, _ = calls_of(lambda: container.write(path, *example(1)), folder)
    new = contents(path)
    rename = calls.index("rename") + 1
    for at in range(1, len(calls) + 1):
        container.write(path, *example(0))
        status = in_child(
            lambda at=at: calls_of(lambda: container.write(path, *example(1)), folder, at, KILL)
        )
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert contents(path) == (old if at <= rename else new), f"killed at {calls[at - 1]}"
        container.write(path, *example(2))
        assert os.listdir(folder) == ["file"]
    print(f"{len(calls)} calls of a save, killed at each")


def train(folder, steps, finished=None):
    session = Session(folder / "run", checkpoint=ss.Checkpoint(folder / "run", 1, keep=2))
    session.run(steps)
    if finished is not None:
        finished.write_text(str(session.bits()))


def kill_runs_at_every_call(folder, steps=3):
    """SIGKILL at each call of a run that saves every step; resumed, it ends with the same bits."""
    (folder / "whole").mkdir()
    calls, _ = calls_of(lambda: train(folder / "whole", steps, folder / "expected"), folder)
    for at in range(1, len(calls) + 1):
        here = folder / f"{at}"
        here.mkdir()
        status = in_child(
            lambda at=at, here=here: calls_of(lambda: train(here, steps), here, at, KILL)
        )
        killed = os.WIFSIGNALED(status)
        assert killed or status == 0
        train(here, steps, folder / "out")
        assert (folder / "out").read_text() == (folder / "expected").read_text(), f"killed at {at}"
    print(f"{len(calls)} calls of a run, killed at each")


def kill_runs_at_random(folder, kills, steps=40):
    """SIGKILL at random moments until so many have hit; every run ends with the same bits."""
    (folder / "whole").mkdir()
    start = time.perf_counter()
    train(folder / "whole", steps, folder / "expected")
    life = time.perf_counter() - start
    rng = random.Random(kills)
    hit = runs = 0
    while hit < kills:
        runs += 1
        here = folder / f"run{runs}"
        here.mkdir()
        status = -1
        while status:
            child = os.fork()
            if not child:
                code = 1
                try:
                    train(here, steps, folder / "out")
                    code = 0
                finally:
                    os._exit(code)
            if hit < kills:
                time.sleep(rng.random() * life / 2)
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                hit += 1
                if (here / "run").exists():
                    ss.History.load(here / "run")
            else:
                assert status == 0
        assert (folder / "out").read_text() == (folder / "expected").read_text(), f"run {runs}"
    print(f"{hit} kills of {runs} runs")


if __name__ == "__main__":
    name, folder, *numbers = sys.argv[1:]
    globals()[name](Path(folder), *map(int, numbers))
