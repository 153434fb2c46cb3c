"""A step of every rule of the registry, for sizes from the L1 cache to main memory.

pytest bench/bench_step.py --benchmark-columns=min,median --benchmark-group-by=param:size
"""

import numpy as np
import pytest

import stepsize as ss

SIZES = [1_000, 100_000, 10_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cls", ss.optimizers.registry())
def test_step(benchmark, cls, size):
    random = np.random.default_rng(0)
    x = random.standard_normal(size, np.float32)
    grad = random.standard_normal(size, np.float32)
    optimizer = cls(x, on_nonfinite="ignore")
    more = {"loss": 1.0} if cls.needs_loss else {}
    benchmark(optimizer.step, grad, **more)
    moved = 4 * (3 + 2 * len(optimizer.state["params"]))
    benchmark.extra_info["GB/s"] = moved * size / benchmark.stats["median"] / 1e9
    assert optimizer.step_count > 0 and np.all(np.isfinite(x))


@pytest.mark.parametrize("option", ["plain", "raise", "clip_norm", "clip_value", "stats"])
@pytest.mark.parametrize("size", SIZES)
def test_what_options_cost(benchmark, option, size):
    random = np.random.default_rng(0)
    x = random.standard_normal(size, np.float32)
    grad = random.standard_normal(size, np.float32)
    keywords = {"clip_norm": 1.0} if option == "clip_norm" else {}
    keywords |= {"clip_value": 0.5} if option == "clip_value" else {}
    checked = "raise" if option == "raise" else "ignore"
    optimizer = ss.Adam(x, on_nonfinite=checked, **keywords)
    benchmark(optimizer.step, grad, stats=option == "stats")
