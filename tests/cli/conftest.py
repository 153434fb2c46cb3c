"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from stepsize.cli import main

MODEL = """
import numpy as np
import stepsize as ss

def make():
    x = np.random.default_rng(0).standard_normal((96, 3)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 3.0], np.float32)
    return ss.problems.regressor(x, y, hidden=(), name="line")

def broken():
    raise KeyError("lost")

def wrong():
    return 3

number = 5
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return str(path)


@pytest.fixture
def run(capsys):
    def call(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call
