"""The rules arrive where torch, Optax and the authors' code arrive, after 1, 10 and 100 steps."""

import json
from pathlib import Path

import numpy as np
import pytest

import authors
import stepsize as ss

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "rules.npz"))
X0, GRADS, MARKS = (GOLDEN.pop(name) for name in ("x0", "grads", "marks"))
AVERAGES = {key: GOLDEN.pop(key) for key in [*GOLDEN] if key.endswith(" average")}

# Single precision rounds by 6e-8, a hundred times over.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def difference(found, expected):
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


def walk(optimizer, grads):
    points = []
    for i, g in enumerate(grads):
        optimizer.step(g, loss=authors.LOSSES[i])
        if i + 1 in MARKS:
            points.append(optimizer.params.copy())
    return np.stack(points)


@pytest.mark.parametrize("key", GOLDEN)
def test_as_torch_and_optax(key):
    name, rest = key.split(" ", 1)
    hyperparams, dtype = rest.rsplit(" ", 1)
    optimizer = getattr(ss, name)(X0.astype(dtype), **json.loads(hyperparams))
    points = walk(optimizer, GRADS.astype(dtype))
    assert difference(points, GOLDEN[key]) <= TOLERANCE[dtype]
    if f"{key} average" in AVERAGES:
        found = optimizer.eval_params()
        assert difference(found, AVERAGES[f"{key} average"][-1]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, hyperparams", authors.CASES, ids=lambda value: str(value))
def test_as_authors(name, hyperparams, dtype):
    optimizer = getattr(ss, name)(X0.astype(dtype), **hyperparams)
    points = walk(optimizer, GRADS.astype(dtype))
    path = getattr(authors, name)(X0.astype(dtype), GRADS.astype(dtype), **hyperparams)
    expected, averages = zip(*path, strict=True)
    assert difference(points, np.stack([expected[mark - 1] for mark in MARKS])) <= TOLERANCE[dtype]
    if averages[-1] is not None:
        assert difference(optimizer.eval_params(), averages[-1]) <= TOLERANCE[dtype]
