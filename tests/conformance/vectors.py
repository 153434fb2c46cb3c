"""Test vectors for others: each case's start, gradients and exact result, as JSON.

`python -m conformance.vectors` writes them again, from the folder the package is in.
"""

import json
from pathlib import Path

import numpy as np

from . import rules, schedules  # noqa: F401
from .cases import Numbers, cases_of, exact
from .exact import mp, number
from .registry import RULES, SCHEDULES

FOLDER = Path(__file__).parent / "vectors"
DIGITS = 20


def file(name):
    return name.replace(", ", "-") + ".json"


def decimal(value):
    return mp.nstr(mp.mpf(value), DIGITS)


def leaves(arrays):
    return [np.vectorize(decimal, otypes=[object])(x).tolist() for x in arrays]


def of_case(case, steps=None):
    """A case as JSON: numbers and floats are exact in binary, results decimals of 20 digits."""
    trajectory = exact(case if steps is None else case.first(steps))
    vector = {"case": case.label, "numbers": case.all_numbers, "x": [x.tolist() for x in case.x0()]}
    if case.kind == "quadratic":
        vector["gradient"] = "of leaf k at x: (i + k) (x - 1) / 4 for the elements i = 1, 2, ..."
    else:
        vector["gradients"] = [[case.gradient(t, k, x).tolist() for k, x in enumerate(case.x0())]
                               for t in range(len(trajectory))]  # fmt: skip
    if case.kind == "moving rate":
        vector["times lr"] = [case.rate(t) for t in range(len(trajectory))]
    if case.statement.whole:
        vector["losses"] = [case.loss(t) for t in range(len(trajectory))]
    return vector | {"results": [leaves(x) for x in trajectory]}


def of_schedule(stated, numbers):
    """A schedule's values for its first 48 steps."""
    given = {key: number(value) for key, value in (stated.numbers | numbers).items()}
    given |= {key: options[0] for key, options in stated.choices.items()}
    values = [decimal(stated.value(s, Numbers(given))) for s in range(48)]
    return {"numbers": stated.numbers | numbers, "values": values}


def write():
    FOLDER.mkdir(exist_ok=True)
    for name, rule in RULES.items():
        made = {"rule": name, "source": rule.source, "cases": [of_case(c) for c in cases_of(name)]}
        (FOLDER / file(name)).write_text(json.dumps(made) + "\n")
    made = {name: {"source": s.source, "cases": [of_schedule(s, n) for n in ({}, *s.cases)]}
            for name, s in SCHEDULES.items()}  # fmt: skip
    (FOLDER / "schedules.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    write()
