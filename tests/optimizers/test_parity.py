"""100 steps agree with torch.optim, by the runs that tests/golden/make_torch.py has stored."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from trajectories import (
    DTYPES,
    GRADIENTS,
    MARKS,
    OPTIONS,
    SIZE,
    TOLERANCE,
    combinations,
    distance,
    ours,
)

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def stored(rule):
    with np.load(GOLDEN / f"torch_{rule.lower()}.npz", allow_pickle=False) as file:
        return dict(file)


RUNS = [
    pytest.param(rule, k, keywords, id=f"{rule}-{k}")
    for rule in OPTIONS
    for k, keywords in enumerate(combinations(rule))
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize(("rule", "k", "keywords"), RUNS)
def test_agrees_with_torch(rule, k, keywords, kind, dtype):
    expected = stored(rule)[f"{kind}_{np.dtype(dtype)}"][k]
    assert expected.dtype == dtype and expected.shape == (len(MARKS), SIZE)
    assert np.all(np.isfinite(expected)) and np.ptp(expected[-1]) > 1e-3
    # Both round every operation, in another order.
    assert distance(ours(rule, keywords, kind, dtype), expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("rule", OPTIONS)
def test_the_stored_runs_are_of_these_options(rule):
    asked = json.loads(json.dumps(list(combinations(rule))))
    assert json.loads(str(stored(rule)["options"])) == asked
    assert str(stored(rule)["torch"]) == "2.13.0"


def test_the_stored_runs_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.glob("torch_*")) < 300_000
