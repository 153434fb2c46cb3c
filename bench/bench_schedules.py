"""The cost of schedules: one value, a million values, one optimizer step; beside torch and optax.

    pytest bench/bench_schedules.py --benchmark-only --benchmark-group-by=group

Rows of peers appear where torch, or jax and optax, are installed. Every timed million is checked
against ours first.
"""

import importlib.util

import numpy as np
import pytest

import stepsize as ss

S = ss.schedules
MILLION = 1_000_000
STEPS = np.arange(MILLION, dtype=np.float64)

PIECES = [
    S.linear(0.0, 0.1, MILLION // 5),
    S.constant(0.1),
    S.cosine(0.1, 0.01, MILLION // 5),
    S.polynomial(0.01, 0.001, MILLION // 5, power=2),
    S.linear(0.001, 0.0, MILLION // 5),
]


def joined():
    whole = PIECES[0]
    for i, piece in enumerate(PIECES[1:], start=1):
        whole = whole.then(piece, at=i * MILLION // 5)
    return whole


OURS = {
    "cosine": S.cosine(0.1, 0.0, MILLION),
    "one_cycle": S.from_optax("cosine_onecycle_schedule", transition_steps=MILLION, peak_value=0.1),
    "join of five": joined(),
    "exponential": S.exponential(0.1, 0.5, MILLION / 10),
    "linear": S.linear(0.1, 0.0, MILLION),
    "cosine_restarts": S.cosine_restarts(0.1, 10_000, decay=0.9),
}


def installed(*names):
    return all(importlib.util.find_spec(name) is not None for name in names)


def optax_schedules():
    import optax

    fifth = MILLION // 5
    made = optax.schedules
    pieces = [
        made.linear_schedule(0.0, 0.1, fifth),
        made.constant_schedule(0.1),
        made.cosine_decay_schedule(0.1, fifth, alpha=0.1),
        made.polynomial_schedule(0.01, 0.001, 2, fifth),
        made.linear_schedule(0.001, 0.0, fifth),
    ]
    return {
        "cosine": made.cosine_decay_schedule(0.1, MILLION),
        "one_cycle": made.cosine_onecycle_schedule(MILLION, 0.1),
        "join of five": made.join_schedules(pieces, [i * fifth for i in range(1, 5)]),
        "exponential": made.exponential_decay(0.1, MILLION // 10, 0.5),
        "linear": made.linear_schedule(0.1, 0.0, MILLION),
    }


@pytest.mark.benchmark(group="one value")
@pytest.mark.parametrize("name", OURS)
def test_one_value(benchmark, name):
    schedule = OURS[name]
    benchmark(schedule, 1234)


@pytest.mark.benchmark(group="a million values")
@pytest.mark.parametrize("name", OURS)
def test_million(benchmark, name):
    schedule = OURS[name]
    values = benchmark(schedule, STEPS)
    assert values[77] == schedule(77)


@pytest.mark.benchmark(group="a million values")
@pytest.mark.parametrize("name", OURS)
def test_first_million(benchmark, name):
    schedule = OURS[name]
    values = benchmark(schedule.values, MILLION)
    assert values[77] == schedule(77)


if installed("jax", "optax"):

    @pytest.mark.benchmark(group="a million values")
    @pytest.mark.parametrize(
        "name", ["cosine", "one_cycle", "join of five", "exponential", "linear"]
    )
    def test_million_optax_jit(benchmark, name):
        import jax

        with jax.enable_x64(True):
            steps = jax.numpy.asarray(STEPS)
            vectorised = jax.jit(jax.vmap(optax_schedules()[name]))
            first = np.asarray(vectorised(steps).block_until_ready())
            np.testing.assert_allclose(first, OURS[name](STEPS), atol=1e-12)
            benchmark(lambda: vectorised(steps).block_until_ready())

    @pytest.mark.benchmark(group="a million values")
    @pytest.mark.parametrize(
        "name", ["cosine", "one_cycle", "join of five", "exponential", "linear"]
    )
    def test_million_optax_jit_float32(benchmark, name):
        import jax

        steps = jax.numpy.asarray(STEPS, jax.numpy.float32)
        vectorised = jax.jit(jax.vmap(optax_schedules()[name]))
        vectorised(steps).block_until_ready()
        benchmark(lambda: vectorised(steps).block_until_ready())

    @pytest.mark.benchmark(group="one value")
    def test_one_value_optax_jit(benchmark):
        import jax

        schedule = jax.jit(optax_schedules()["cosine"])
        schedule(1234).block_until_ready()
        benchmark(lambda: schedule(1234).block_until_ready())


if installed("torch"):

    @pytest.mark.benchmark(group="one value")
    @pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "StepLR"])
    def test_one_scheduler_step_torch(benchmark, name):
        import torch

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        arguments = {
            "CosineAnnealingLR": (MILLION,),
            "OneCycleLR": (0.1, 100 * MILLION, None, None, 0.3, "cos", False),
            "StepLR": (1000,),
        }
        scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, *arguments[name])
        optimizer.step()
        benchmark(scheduler.step)


@pytest.mark.benchmark(group="one step of AdamW, 1,000 elements")
@pytest.mark.parametrize("lr", ["float", "warmup_cosine", "join of five", "function"])
def test_step(benchmark, lr):
    sources = {
        "float": 0.001,
        "warmup_cosine": S.warmup_cosine(0.001, 1000, MILLION),
        "join of five": OURS["join of five"],
        "function": lambda step: 0.001,
    }
    params, grads = np.zeros(1000, np.float32), np.ones(1000, np.float32)
    optimizer = ss.AdamW(params, lr=sources[lr])
    benchmark(optimizer.step, grads)
