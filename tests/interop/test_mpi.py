"""Ranks without MPI: gradients averaged and state shared on the threads of a LocalComm."""

import numpy as np
import pytest

import stepsize as ss
from cases import CHUNK, RULES
from ranks import (
    alone,
    check_rule,
    continued,
    data_parallel,
    differences,
    gradient_of,
    numbers,
    saved,
    uninterrupted,
)
from stepsize.collectives import Share, mean_of
from stepsize.interop.mpi import DataParallel, LocalComm, RankError, Zero1, load_shards

SIZES = (1, 2, 3, 5)


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_on_ranks_has_the_bits_that_it_has_alone(cls, dtype):
    for size in SIZES:
        for keywords in ({}, {"clip_norm": 1.0, "clip_value": 0.5}):
            found = LocalComm.run(size, lambda c, k=keywords: check_rule(c, cls, dtype, **k))
            assert found == [[]] * size
    # The gradients are clipped: the norm that all ranks have together is above 1.
    assert alone(cls, dtype, 2)[2][0].grad_norm > 1
