"""Each compiled rule is its NumPy statement, bit for bit, on every target and thread count."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from cases import CASES, COMPILED, DTYPES, RULES, digest, numpy_rule, run_edges, same_bits
from stepsize.optimizers import rule

SUPPORT = Path(__file__).parents[1] / "support"


def named(values):
    return [pytest.param(value, id=str(value)) for value in values]


@cache
def by_numpy(case, dtype):
    with numpy_rule(case.cls):
        return digest(run_edges(case, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", named(COMPILED))
def test_compiled_is_numpy(case, dtype):
    with numpy_rule(case.cls):
        expected = run_edges(case, dtype)
    found = run_edges(case, dtype)
    assert found.keys() == expected.keys()
    wrong = [name for name in expected if not same_bits(found[name], expected[name])]
    assert not wrong


@pytest.mark.parametrize("target", ss.build_info()["available_targets"])
def test_every_target_and_thread_count_gives_the_same_bits(target):
    environment = {**os.environ, "STEPSIZE_TARGET": target, "OMP_WAIT_POLICY": "passive"}
    run = subprocess.run(
        [sys.executable, SUPPORT / "digests.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    answer = json.loads(run.stdout)
    assert answer["target"] == target
    threads = {key.rpartition("|")[2] for key in answer["digests"]}
    assert threads == {"1", "2", "3", "5"} and answer["tasks"] >= 5
    expected = {f"{case}|{d.__name__}": by_numpy(case, d) for case in COMPILED for d in DTYPES}
    assert {key.rpartition("|")[0] for key in answer["digests"]} == expected.keys()
    wrong = [
        key for key, found in answer["digests"].items() if found != expected[key.rpartition("|")[0]]
    ]
    assert not wrong


@pytest.mark.parametrize("case", named(CASES))
def test_a_step_moves_parameters_and_counts(case):
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    before = x.copy()
    optimizer = case.make({"x": x})
    for k in range(6):  # the first few may be silent
        optimizer.step({"x": np.cos(x)}, **({"loss": 1.0} if case.cls.needs_loss else {}))
        assert optimizer.step_count == k + 1
    assert np.all(np.isfinite(x)) and np.any(x != before)


@pytest.mark.parametrize("cls", RULES)
def test_a_class_says_what_it_is(cls):
    signature = str(cls.__signature__)
    assert signature.startswith("(params, lr=") and ", *, " in signature
    assert cls.__doc__ and "Source:" in cls.__doc__ and ">>> " in cls.__doc__
    assert getattr(ss, cls.__name__) is cls and cls.__name__ in ss.__all__
    for name in cls.fields:
        assert name == "lr" or f"{name}:" in cls.__doc__


def test_compiled_rules_all_have_a_class():
    used = {case.cls.variant(case.values)[0] for case in COMPILED}
    assert used == set(rule.COMPILED)
