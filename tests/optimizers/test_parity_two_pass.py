"""Rules of two passes arrive where the authors' packages and Optax do.

The numbers are in golden/two_pass.npz; golden/make_two_pass.py made them.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "two_pass.npz"))
LEAVES = ("w", "b")
CASES = sorted({key.rsplit(" ", 1)[0] for key in GOLDEN if key.endswith(" w")})
# Sums round: the references take theirs in single precision, ours are taken in double.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def value_and_grad(x, step):
    loss, grads = 0.0, {}
    for name in LEAVES:
        steep, bottom, noise = (
            GOLDEN[f"{name}_{kind}"].astype(float) for kind in ("a", "c", "noise")
        )
        apart = x[name].astype(float) - bottom
        loss += float((steep * apart**2).sum() / 2)
        grads[name] = (steep * apart + noise[step]).astype(x[name].dtype)
    return loss, grads


def make(name, x, keywords):
    if name.startswith("Mechanic("):
        inner = getattr(ss, name.removeprefix("Mechanic(").removesuffix(")"))
        return ss.Mechanic(inner(x, lr=1.0), **keywords)
    return getattr(ss, name)(x, **keywords)


@pytest.mark.parametrize("case", CASES)
def test_arrives_where_the_reference_does(case):
    name, rest = case.split(" ", 1)
    keywords, dtype = rest.rsplit(" ", 1)
    x = {leaf: GOLDEN[f"{leaf}_x0"].astype(dtype) for leaf in LEAVES}
    optimizer = make(name, x, json.loads(keywords))
    marks, tolerance = list(GOLDEN["marks"]), TOLERANCE[dtype]
    if name.startswith("Mechanic("):
        # Its bets feed back on themselves: two roundings of one run soon part.
        marks, tolerance = (marks[:2], 1e-5) if dtype == "float32" else (marks, 1e-7)
    for step in range(marks[-1]):
        loss, grads = value_and_grad(x, step)
        optimizer.step(grads, loss=loss)
        if step + 1 in marks:
            for leaf in LEAVES:
                expected = GOLDEN[f"{case} {leaf}"][marks.index(step + 1)]
                apart = np.abs(x[leaf].astype(float) - expected).max()
                assert apart <= tolerance * max(1.0, np.abs(expected).max()), step + 1
