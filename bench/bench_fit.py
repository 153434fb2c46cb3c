"""What the training loop itself costs per step, beside a bare loop that calls the same functions.

    pytest bench/bench_fit.py --benchmark-columns=min,median --benchmark-sort=min

Times are per round of 10,000 steps: a millisecond is 0.1 microseconds per step.
"""

import io
import sys

import numpy as np
import pytest

import stepsize as ss

STEPS = 10_000
BATCHES = [None] * STEPS


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def problem():
    params = {"w": np.zeros(1000, np.float32)}
    grads = {"w": np.full(1000, 1e-3, np.float32)}
    return params, lambda params, batch: (1.0, grads)


@pytest.mark.parametrize("stats", [False, True])
def test_bare_loop(benchmark, problem, stats):
    params, value_and_grad = problem

    def loop():
        optimizer = ss.Adam(params, lr=1e-3)
        for batch in BATCHES:
            loss, grads = value_and_grad(params, batch)
            optimizer.step(grads, loss=loss, stats=stats)

    benchmark.pedantic(loop, rounds=9, warmup_rounds=1)


@pytest.mark.parametrize("progress", [False, True])
def test_fit(benchmark, problem, monkeypatch, progress):
    params, value_and_grad = problem
    monkeypatch.setattr(sys, "stderr", Terminal())

    def loop():
        optimizer = ss.Adam(params, lr=1e-3)
        ss.fit(value_and_grad, params, optimizer, BATCHES, epochs=1, progress=progress)

    benchmark.pedantic(loop, rounds=9, warmup_rounds=1)
