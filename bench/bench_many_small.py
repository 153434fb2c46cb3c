"""Many small arrays: per-array overhead of a step, by how the arrays are stored.

pytest bench/bench_many_small.py --benchmark-columns=min,median
"""

import numpy as np
import pytest

import stepsize as ss

SHAPES = [(1, 1_000), (100, 1_000), (1_000, 100), (10_000, 10)]


def nest(count, size):
    random = np.random.default_rng(0)
    return {str(k): random.standard_normal(size, np.float32) for k in range(count)}


@pytest.mark.parametrize("layout", ["apart", "packed", "packed with gradients"])
@pytest.mark.parametrize(("count", "size"), SHAPES)
def test_step(benchmark, count, size, layout):
    params, grads = nest(count, size), nest(count, size)
    if layout != "apart":
        params = ss.pack(params)
    if layout == "packed with gradients":
        grads = ss.pack(grads)
    optimizer = ss.Adam(params, on_nonfinite="ignore")
    benchmark(optimizer.step, grads)


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_nesting(benchmark, depth):
    def build(level):
        return {str(k): build(level - 1) for k in range(2)} if level else np.ones(8, np.float32)

    optimizer = ss.Adam(build(depth), on_nonfinite="ignore")
    benchmark(optimizer.step, build(depth))


@pytest.mark.parametrize("way", ["construct", "state_dict", "clone"])
def test_what_surrounds_a_step(benchmark, way):
    params = nest(100, 1_000)
    optimizer = ss.Adam(params)
    acts = {
        "construct": lambda: ss.Adam(params),
        "state_dict": optimizer.state_dict,
        "clone": lambda: optimizer.clone(ss.arrays.copy(params)),
    }
    benchmark(acts[way])
