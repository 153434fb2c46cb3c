"""A state that is read or written while another thread steps is one of a moment between steps."""

import threading

import numpy as np
import pytest

import stepsize as ss


@pytest.fixture
def stepping():
    """An optimizer over a million numbers, all alike, and a thread that steps it without pause."""
    x = np.ones(1_000_000, np.float32)
    optimizer = ss.SGD(x, lr=0.0, momentum=0.5, dampening=0.5)
    done, grads = threading.Event(), np.ones_like(x)

    def run():
        while not done.is_set():
            optimizer.step(grads)

    thread = threading.Thread(target=run)
    thread.start()
    yield optimizer
    done.set()
    thread.join()


def is_whole(state):
    momentum = state["state"]["params"]["momentum_buffer"]
    return momentum.min() == momentum.max() and state["steps"]["params"] == state["step_count"]


def test_a_state_that_is_read_during_steps_is_whole(stepping):
    assert all(is_whole(stepping.state_dict()) for _ in range(20))


def test_a_state_that_is_written_during_steps_is_whole(stepping):
    saved = stepping.state_dict()
    for _ in range(20):
        stepping.load_state_dict(saved)
        assert is_whole(stepping.state_dict())


@pytest.mark.parametrize("wrap", [lambda opt: ss.EMA(opt, 0.5), lambda opt: ss.Lookahead(opt, 1)])
def test_the_state_of_a_wrapper_is_whole(wrap):
    x = np.ones(1_000_000, np.float32)
    optimizer = wrap(ss.SGD(x, lr=0.25))
    done, grads = threading.Event(), np.ones_like(x)

    def run():
        while not done.is_set():
            optimizer.step(grads)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(10):
            (own,) = optimizer.state_dict()["wrappers"]
            for arrays in own["arrays"].values():
                assert arrays["params"].min() == arrays["params"].max()
    finally:
        done.set()
        thread.join()


def test_a_clone_made_during_steps_is_whole(stepping):
    twin = stepping.clone(np.ones(1_000_000, np.float32))
    assert is_whole(twin.state_dict())
