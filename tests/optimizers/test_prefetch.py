"""Asking for memory ahead of the loop moves no bit."""

import numpy as np
import pytest

import cases
from stepsize import _core


@pytest.fixture
def prefetching():
    kept = _core.prefetches()
    yield _core.set_prefetches
    _core.set_prefetches(kept)


@pytest.mark.parametrize("cls", sorted({case.cls for case in cases.COMPILED}, key=repr))
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_prefetch_moves_no_bit(prefetching, cls, dtype):
    found = []
    for on in (False, True):
        prefetching(on)
        params = cases.random_nest({"w": 3 * _core.chunk_size + 5}, dtype)
        optimizer = cls(params)
        for step in range(2):
            cases.advance(optimizer, cases.random_grads(params, step))
        assert _core.prefetches() is on
        found.append(params["w"])
    assert np.abs(found[0]).sum() > 0
    assert cases.same_bits(*found)
