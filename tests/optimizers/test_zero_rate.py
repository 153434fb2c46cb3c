"""A rate of 0: taken by every rule, as a warm-up starts with it, and nothing moves."""

import numpy as np
import pytest

import stepsize as ss
from cases import RULES

EVERY = [*RULES, ss.LBFGS]
# Its rate is the first length of each coordinate's step, which its own limits raise at once.
MOVES = {"Rprop": 1e-6}


def step(optimizer, grads):
    if optimizer.needs_closure:
        optimizer.step(lambda params: (1.0, grads))
    else:
        optimizer.step(grads, loss=1.0)


def make(dtype, seed=0):
    random = np.random.default_rng(seed)
    return {
        "w": random.normal(size=(4, 3)).astype(dtype),
        "b": random.normal(size=33).astype(dtype),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", EVERY)
def test_a_rate_of_zero_leaves_the_parameters(cls, dtype):
    params, before = make(dtype), make(dtype)
    optimizer = cls(params, lr=0.0)
    for k in range(3):
        step(optimizer, make(dtype, seed=k + 1))
    if cls.__name__ in MOVES:
        assert all(0 < abs(params[k] - before[k]).max() < 5e-6 for k in params)
    else:
        assert all(params[k].tobytes() == before[k].tobytes() for k in params)


@pytest.mark.parametrize("cls", EVERY)
def test_a_schedule_from_zero_is_taken(cls):
    params, before = make(np.float64), make(np.float64)
    lr = ss.schedules.linear(0.0, 0.1, 4)
    optimizer = cls(params, lr=0.1)
    optimizer.lr = lr
    step(optimizer, make(np.float64, seed=1))
    if cls.__name__ not in MOVES:
        assert all(params[k].tobytes() == before[k].tobytes() for k in params)
    for k in range(3):
        step(optimizer, make(np.float64, seed=k + 2))
    assert all(np.isfinite(leaf).all() for leaf in params.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lr", [0.0, 1e-300])
def test_a_step_of_ftrl_at_no_rate_keeps_its_state(lr, dtype):
    once, twice = make(dtype), make(dtype)
    first, second = ss.FTRL(once, lr=0.1, l1=0.01), ss.FTRL(twice, lr=0.1, l1=0.01)
    for k in range(4):
        grads = make(dtype, seed=k + 1)
        if dtype is np.float32 or lr == 0:  # 1 / 1e-300 is a number in double precision
            second.lr = lr
            second.step(make(dtype, seed=99))
        second.lr = 0.1
        first.step(grads)
        second.step(grads)
        assert all(once[name].tobytes() == twice[name].tobytes() for name in once)
