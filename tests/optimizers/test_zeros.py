"""Zeros: where parameters, gradients or the rate are 0, a compiled rule is its NumPy statement.

Norms of 0 divide nothing, and no random leaf has one.
"""

import itertools

import numpy as np
import pytest

from cases import COMPILED, advance, numpy_rule, same_bits
from together import together

SHAPES = {"w": (5, 7), "b": (19,)}
STEPS = 3


def nest(value, dtype, seed):
    random = np.random.default_rng(seed)
    return {k: (value * random.normal(size=shape)).astype(dtype) for k, shape in SHAPES.items()}


def arrays_after(case, dtype, sizes, no_rate):
    """What the steps leave, whose parameters and gradients are of these sizes."""
    params = nest(sizes[0], dtype, 1)
    optimizer = case.make(params, on_nonfinite="ignore")
    if no_rate:
        optimizer.lr = 0.0
    for k, size in enumerate(sizes[1:]):
        advance(optimizer, nest(size, dtype, 2 + k))
    found = dict(params)
    for path, slots in optimizer.state.items():
        found |= {f"{path}.{name}": slot for name, slot in slots.items()}
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@together("case", COMPILED)
def test_a_compiled_rule_is_its_statement_where_all_is_zero(case, dtype):
    for sizes in itertools.product((0.0, 1.0), repeat=STEPS):  # of parameters, then of gradients
        for no_rate in (False, True):
            with numpy_rule(case.cls):
                expected = arrays_after(case, dtype, sizes, no_rate)
            found = arrays_after(case, dtype, sizes, no_rate)
            wrong = [name for name in expected if not same_bits(found[name], expected[name])]
            assert not wrong, (sizes, no_rate)
