"""What the tests share: a fixed number of threads, and a random generator that starts the same."""

import gc
import os
import signal
import sys

# Read when NumPy is imported: threads of a matrix product would wait for the cores of other tests.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

import stepsize as ss

# A shell that starts a job in the background makes it deaf to Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Pictures are drawn where no window can open.
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_finish():
    # Tens of thousands of tests are live objects: no search for garbage need walk them again.
    gc.collect()
    gc.freeze()


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
