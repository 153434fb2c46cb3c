"""Each compiled rule is its NumPy statement, bit for bit, on every target and thread count."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import digests
import stepsize as ss
from cases import CASES, COMPILED, RULES, digest, numpy_rule, run_edges, same_bits
from stepsize.optimizers import loop, rule

TARGETS = ss.build_info()["available_targets"]


PARTS = 3  # for the workers of a run in parallel


def wrong_arrays(case, dtype):
    """The arrays that the compiled rule leaves otherwise, on this target; for the reader."""
    with numpy_rule(case.cls):
        expected = run_edges(case, dtype)
    found = run_edges(case, dtype)
    assert found.keys() == expected.keys()
    return [name for name in expected if not same_bits(found[name], expected[name])]


@pytest.mark.parametrize("part", range(PARTS))
def test_compiled_is_numpy_on_every_target_and_thread_count(part):
    runs = digests.RUNS[part::PARTS]
    by_target = [
        subprocess.Popen(
            [sys.executable, digests.__file__, str(part), str(PARTS)],
            env={**os.environ, "STEPSIZE_TARGET": target, "OMP_WAIT_POLICY": "passive"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for target in TARGETS
    ]
    expected = {}
    for case, dtype in runs:
        with numpy_rule(case.cls):
            expected[digests.name(case, dtype)] = digest(run_edges(case, dtype))
    for target, process in zip(TARGETS, by_target, strict=True):
        answer = json.loads(process.communicate(timeout=250)[0])
        assert process.returncode == 0 and answer["target"] == target
        threads = {key.rpartition("|")[2] for key in answer["digests"]}
        assert threads == {"1", "2", "3", "5"} and answer["tasks"] >= 5
        assert {key.rpartition("|")[0] for key in answer["digests"]} == expected.keys()
        wrong = [
            key
            for key, found in answer["digests"].items()
            if found != expected[key.rpartition("|")[0]]
        ]
        names = {key.rpartition("|")[0] for key in wrong}
        here = [(*run, wrong_arrays(*run)) for run in runs if digests.name(*run) in names]
        assert not wrong, here


@pytest.mark.parametrize("cls", RULES)
def test_a_step_moves_parameters_and_counts(cls):
    for case in (case for case in CASES if case.cls is cls):
        x = np.linspace(-1, 1, 12).reshape(3, 4)
        before = x.copy()
        optimizer = case.make({"x": x})
        for k in range(6):  # the first few may be silent
            optimizer.step({"x": np.cos(x)}, **({"loss": 1.0} if cls.needs_loss else {}))
            assert optimizer.step_count == k + 1
        assert np.all(np.isfinite(x)) and np.any(x != before), case


@pytest.mark.parametrize("cls", RULES)
def test_a_class_says_what_it_is(cls):
    signature = str(cls.__signature__)
    assert signature.startswith("(params, lr=") and ", *, " in signature
    assert cls.__doc__ and "Source:" in cls.__doc__ and ">>> " in cls.__doc__
    assert getattr(ss, cls.__name__) is cls and cls.__name__ in ss.__all__
    for name in cls.fields.keys() - loop.LOOP.keys():
        assert name == "lr" or f"{name}:" in cls.__doc__


def test_compiled_rules_all_have_a_class():
    used = {case.cls.variant(case.values)[0] for case in COMPILED}
    assert used == set(rule.COMPILED)
