"""SIGTERM, which schedulers of clusters send before they kill: a search ends as at Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import stepsize as ss
from processes import runs

DRIVER = """
import os, sys, time
from functools import partial
from pathlib import Path
import numpy as np
import stepsize as ss

FOLDER = Path(sys.argv[1])

def objective(point, trial):
    if trial.number < 2:
        return point["lr"]
    mark = FOLDER / f"began-{os.getpid()}"
    mark.touch()
    try:
        time.sleep(600)
    finally:
        (FOLDER / "left").touch()

def training(point, trial):
    def value_and_grad(params, batch):
        if trial.number == 2:
            (FOLDER / f"began-{os.getpid()}").touch()
            time.sleep(0.02)
        return 1.0, params
    x = np.ones(2)
    go_on = {"checkpoint": FOLDER / f"training-{trial.number}", "resume": True}
    ss.fit(value_and_grad, x, ss.SGD(x, lr=0.01), [None], steps=3000 * (trial.number == 2) + 1,
           progress=False, **go_on)
    return point["lr"]

def nested(point):
    ss.sweep(objective, {"lr": [3, 4, 5, 6]}, storage=FOLDER / "inner")

SPACE = {"lr": ss.LogUniform(1, 2)}
GRID = {"lr": [1, 2, 3, 4]}
SEARCHES = {
    "here": partial(ss.sweep, objective, GRID),
    "processes": partial(ss.sweep, objective, GRID, 2),
    "halving": partial(ss.tune, objective, SPACE, trials=9, method="halving", budget=(1, 9),
                       executor=2),
    "training": partial(ss.sweep, training, GRID),
    "nested": partial(ss.sweep, nested, {"a": [1, 2]}),
}

if __name__ == "__main__":
    SEARCHES[sys.argv[2]](storage=FOLDER / "runs")
    print("went on")
"""


def terminated(name, folder, group=False):
    """A driver that was sent SIGTERM in the midst of its third run, and its workers' numbers."""
    (folder / "driver.py").write_text(DRIVER)
    (folder / "temporary").mkdir()
    driver = subprocess.Popen(
        [sys.executable, str(folder / "driver.py"), str(folder), name],
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(folder.glob("began-*"))) < (2 if name in ("processes", "halving") else 1):
        assert driver.poll() is None
        time.sleep(0.02)
    (os.killpg if group else os.kill)(driver.pid, signal.SIGTERM)
    printed = driver.communicate(timeout=60)[0]
    assert driver.returncode == -signal.SIGTERM and "went on" not in printed
    return [int(mark.name.split("-")[1]) for mark in folder.glob("began-*")]


def values(file):
    lines = map(json.loads, file.read_text().splitlines()[1:])
    return [(line["number"], line["state"]) for line in lines]


@pytest.mark.parametrize("group", [False, True], ids=["the driver", "all processes"])
@pytest.mark.parametrize("name", ["processes", "halving"])
def test_a_search_on_processes_puts_all_away(name, group, tmp_path):
    workers = terminated(name, tmp_path, group)
    until = time.monotonic() + 10
    while any(map(runs, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, workers))
    assert not list((tmp_path / "temporary").glob("stepsize-*"))
    if name == "processes":
        assert sorted(values(tmp_path / "runs")) == [(0, "done"), (1, "done")]


@pytest.mark.parametrize("name", ["here", "nested"])
def test_a_run_in_this_process_is_left_as_at_ctrl_c(name, tmp_path):
    terminated(name, tmp_path)
    assert (tmp_path / "left").exists()
    file = tmp_path / ("runs" if name == "here" else "inner")
    assert values(file) == [(0, "done"), (1, "done")]


def test_a_training_with_a_checkpoint_saves_it_first(tmp_path):
    terminated("training", tmp_path)
    assert values(tmp_path / "runs") == [(0, "done"), (1, "done")]
    assert (tmp_path / "training-2").exists()


def test_a_handler_of_the_program_is_left_to_it():
    seen = []

    def objective(point):
        os.kill(os.getpid(), signal.SIGTERM)
        return float(point["lr"])

    before = signal.signal(signal.SIGTERM, lambda *given: seen.append(given))
    try:
        assert len(ss.sweep(objective, {"lr": [1, 2]}).trials) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(seen) == 2
