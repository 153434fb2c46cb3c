"""What the tests share: a fixed number of threads, and a random generator that starts the same."""

import os
import signal
import sys

import numpy as np
import pytest

import stepsize as ss

# A shell that starts a job in the background makes it deaf to Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Pictures are drawn where no window can open.
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(autouse=True)
def leave_threads_as_found():
    yield
    ss.set_num_threads(None)


@pytest.fixture(autouse=True)
def close_pictures():
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture
def random():
    return np.random.default_rng(0)
