"""Processes started in every way, and arrays that a thread resizes."""

import multiprocessing
import threading

import numpy as np
import pytest

import stepsize as ss

LARGE = 600_000  # elements that are updated without the interpreter's lock
METHODS = multiprocessing.get_all_start_methods()


def stepped(optimizer, seed):
    """Three steps, and what they leave; in this process or in another."""
    grads = {name: np.cos(x + seed) for name, x in optimizer.params.items()}
    for _ in range(3):
        optimizer.step(grads)
    return {name: x.tobytes() for name, x in optimizer.params.items()}, repr(optimizer.state_dict())


def pair():
    params = {"w": np.linspace(-1, 1, 12).reshape(3, 4), "b": np.zeros(LARGE, np.float32)}
    return ss.EMA(ss.AdamW(params, lr=ss.schedules.cosine(0.1, 0.0, 9)), 0.9)


def in_child(method, optimizer, seed):
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        return pool.apply_async(stepped, (optimizer, seed)).get(timeout=120)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_an_optimizer_goes_on_in_a_process_started_in_any_way(method):
    """Before, between and after steps here, on threads; each goes on as it would have here."""
    optimizer, twin = pair(), pair()
    for seed in range(3):
        assert in_child(method, optimizer, seed) == stepped(twin, seed)
        assert stepped(optimizer, seed) == (
            {name: x.tobytes() for name, x in twin.params.items()},
            repr(twin.state_dict()),
        )


@pytest.mark.parametrize("prey", ["parameter", "gradient", "both"])
def test_a_thread_that_resizes_arrays_is_refused_or_the_step_is(prey):
    """It tries all the time, also while a step works without the interpreter's lock."""
    x, g = np.ones(LARGE), np.ones(LARGE)
    optimizer, stop, refused = ss.SGD(x, lr=0.5), threading.Event(), []
    victims = {"parameter": [x], "gradient": [g], "both": [x, g]}[prey]

    def resize():
        while not stop.is_set():
            for array in victims:
                try:
                    array.resize(LARGE + 8, refcheck=False)
                    array.resize(LARGE, refcheck=False)
                except ValueError as error:
                    refused.append(error)

    thread = threading.Thread(target=resize)
    thread.start()
    taken = 0
    try:
        for _ in range(60):
            try:
                optimizer.step(g)
                taken += 1
            except ValueError as error:
                assert "shape" in str(error)
    finally:
        stop.set()
        thread.join()
    assert optimizer.step_count == taken
    if x.size == LARGE:
        np.testing.assert_array_equal(x[: LARGE - 8], 1 - 0.5 * taken)
