"""What the tests share: a fixed number of threads, and a random generator that starts the same."""

import numpy as np
import pytest

import stepsize as ss


@pytest.fixture(autouse=True)
def leave_threads_as_found():
    yield
    ss.set_num_threads(None)


@pytest.fixture
def random():
    return np.random.default_rng(0)
