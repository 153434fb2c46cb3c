"""Gradients that are other arrays in every step: the layout that is kept follows them."""

import numpy as np
import pytest

import stepsize as ss

CHUNK = 16_384
SIZES = {"small": 100, "many chunks": 2 * CHUNK + 5, "empty": 0, "one chunk": CHUNK}
OPTIONS = [{}, {"clip_norm": 0.5}, {"on_nonfinite": "ignore"}]


def nest(seed, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return {key: draw.standard_normal(size).astype(dtype) for key, size in SIZES.items()}


def programme():
    """What a loop may hand over: new arrays, some without a gradient, packed, of another dtype."""
    yield nest(1)
    yield nest(2)
    yield ss.pack(nest(3))
    yield nest(4, np.float16)
    yield nest(5, np.float16)
    yield {**nest(6), "small": None}
    yield {**nest(7), "small": None}
    yield {**nest(8), "many chunks": nest(8, np.float16)["many chunks"]}
    yield {str(key): value for key, value in reversed(nest(9).items())}
    yield {"".join(list(key)): value for key, value in nest(10).items()}  # equal keys, others
    yield nest(11)


@pytest.mark.parametrize("packed", [False, True])
def test_a_layout_that_is_kept_is_that_of_a_new_optimizer(packed):
    for rule in (ss.AdamW, ss.LAMB, ss.Adafactor, ss.Muon):
        for options in OPTIONS:
            params = ss.pack(nest(0)) if packed else nest(0)
            kept = rule(params, lr=1e-3, **options)
            for grads in programme():
                fresh = kept.clone(ss.arrays.copy(params))
                told = kept.step(grads, stats=True), fresh.step(grads, stats=True)
                assert told[0] == told[1]
                kept.step(grads)
                fresh.step(grads)
                for key, leaf in fresh.params.items():
                    assert leaf.tobytes() == params[key].tobytes(), (rule, options, key)
