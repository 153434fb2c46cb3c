"""Where memory does not suffice, a step, a save and a load change nothing and raise MemoryError.

``tests/sanitizers/run.py allocations`` lets every allocation fail, for more kinds of optimizers.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from stepsize import _core

RUN = Path(__file__).parents[1] / "sanitizers" / "run.py"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("g++"), reason="needs glibc, g++")
def test_every_allocation_of_some_optimizers_may_fail():
    done = subprocess.run(
        [sys.executable, RUN, "allocations", "quick"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " 0 went wrong" in done.stdout
    failed, calls = re.search(r"(\d+) allocations of (\d+) calls", done.stdout).groups()
    assert int(failed) > int(calls) > 0


def test_an_assignment_writes_arrays_of_any_layout_and_their_rows():
    random = np.random.default_rng(0)
    values = [random.standard_normal((4, 3, 2)) for _ in range(3)]
    targets = [np.zeros((4, 3, 2)), np.zeros((2, 3, 4)).T, np.zeros((8, 3, 4))[::2, :, 1::2]]
    _core.assignment(targets, values)()
    for target, value in zip(targets, values, strict=True):
        np.testing.assert_array_equal(target, value)
    wide, rows = np.zeros((9, 2, 3)).swapaxes(1, 2), np.array([7, 0, 2])
    write = _core.assignment([wide], [values[0][:3]], [rows])
    values[0][1] = 5.0  # as they are then
    write()
    np.testing.assert_array_equal(wide[rows], values[0][:3])
    assert not wide[[1, 3, 4, 5, 6, 8]].any()
    scalar, empty = np.zeros(()), np.zeros((0, 2))
    _core.assignment([scalar, empty], [np.array(3.0), empty.copy()])()
    assert scalar == 3


@pytest.mark.parametrize(
    "targets, values, rows",
    [
        ([np.zeros(3)], [np.zeros(4)], None),
        ([np.zeros(3)], [np.zeros(3, np.float32)], None),
        ([np.zeros(3)], [], None),
        ([np.zeros((3, 2))], [np.zeros((1, 2))], [np.array([3])]),
        ([np.zeros((3, 2))], [np.zeros((1, 2))], [np.array([-1])]),
        ([np.zeros((3, 2))], [np.zeros((2, 2))], [np.array([1])]),
        ([np.zeros(3)], [[1.0, 2.0, 3.0]], None),
    ],
)
def test_an_assignment_of_arrays_that_do_not_fit_is_refused(targets, values, rows):
    with pytest.raises(ValueError, match="assignment: "):
        _core.assignment(targets, values, rows)


def test_an_assignment_to_what_has_become_read_only_writes_nothing():
    targets = [np.zeros(3), np.zeros(3)]
    write = _core.assignment(targets, [np.ones(3), np.ones(3)])
    targets[1].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        write()
    assert not targets[0].any()


def test_the_statistics_of_steps_are_objects_of_their_own():
    """They are made before a step, and their numbers put in after it."""
    x = np.array([3.0, 4.0])
    optimizer = ss.SGD(x, lr=0.5)
    first = optimizer.step(np.array([2.0, 0.0]), stats=True)
    second = optimizer.step(np.array([0.0, 4.0]), stats=True)
    assert first == ss.StepStats(2.0, 1.0, 5.0, 0.2, 0)
    assert second == ss.StepStats(4.0, 2.0, np.sqrt(20.0), 2 / np.sqrt(20.0), 0)
    x[...] = 0
    assert optimizer.step(np.ones(2), stats=True).update_ratio == np.inf
    x[...] = 0
    assert np.isnan(optimizer.step(np.zeros(2), stats=True).update_ratio)
    careless = ss.SGD(np.ones(2), lr=0.5, on_nonfinite="ignore")
    assert careless.step(np.array([np.nan, np.inf]), stats=True).nonfinite == 2
