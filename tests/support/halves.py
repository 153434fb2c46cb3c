"""Parameters and gradients of half precision, drawn from seeds."""

import numpy as np


def params_of(dtype, sizes=(1, 255, 256, 257, 700), seed=0):
    rng = np.random.default_rng(seed)
    return {f"p{n}": rng.standard_normal((n, 2)).astype(dtype) for n in sizes}


def grads_of(params, seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(p.shape).astype(dtype) for key, p in params.items()}
