"""The law of optimizers/test_bits.py for the mutants, rule by rule and in this process.

There a test takes a third of all rules through each instruction set and number of threads, in other
processes; a mutant of one rule is known by that rule.
"""

import numpy as np
import pytest

from cases import COMPILED, digest, numpy_rule, run_edges
from together import together


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@together("case", COMPILED)
def test_compiled_is_numpy(case, dtype):
    with numpy_rule(case.cls):
        expected = digest(run_edges(case, dtype))
    assert digest(run_edges(case, dtype)) == expected
