"""K small models stepped at once, and by K optimizers in a Python loop.

pytest bench/bench_population.py --benchmark-columns=min,median --benchmark-group-by=param:model
"""

import numpy as np
import pytest

import stepsize as ss

COUNT = 32
MODELS = {
    "linear": {"w": (10,), "b": ()},
    "mlp": {"w1": (64, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)},
}


def draw(model, seed):
    random = np.random.default_rng(seed)
    shapes = MODELS[model].items()
    return {
        name: random.standard_normal((COUNT, *shape)).astype(np.float32) for name, shape in shapes
    }


def row(nest, k):
    return {name: leaf[k, ...].copy() for name, leaf in nest.items()}


def at_once(model):
    params, grads = draw(model, 0), draw(model, 1)
    models = ss.population("adam", params, lr=np.geomspace(1e-4, 1, COUNT))
    return params, lambda: models.step(grads)


def one_by_one(model):
    params, grads = draw(model, 0), draw(model, 1)
    own = [row(params, k) for k in range(COUNT)]
    rates = np.geomspace(1e-4, 1, COUNT)
    pairs = [(ss.Adam(own[k], lr=rates[k]).step, row(grads, k)) for k in range(COUNT)]

    def step():
        for move, grad in pairs:
            move(grad)

    return own, step


@pytest.mark.parametrize("how", [at_once, one_by_one])
@pytest.mark.parametrize("model", MODELS)
def test_step_of_many_models(benchmark, model, how):
    _, step = how(model)
    benchmark(step)


@pytest.mark.parametrize("model", MODELS)
def test_both_ways_end_at_the_same_parameters(model):
    together, step = at_once(model)
    own, loop = one_by_one(model)
    for _ in range(3):
        step()
        loop()
    for k in range(COUNT):
        for name, leaf in own[k].items():
            np.testing.assert_array_equal(together[name][k], leaf)
