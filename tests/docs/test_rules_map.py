"""The map of rules and problems, and the page that is made from it."""

import sys
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
import which_rule

BENCH = Path(__file__).parents[2] / "bench" / "rules_map"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    try:
        import run as found
    finally:
        sys.path.remove(str(BENCH))
    return found


def test_the_page_is_made_from_the_results():
    text = which_rule.PAGE.read_text(encoding="utf-8")
    assert which_rule.page() == text, "run: python docs/which_rule.py --picture"


def test_every_rule_is_on_the_map(bench):
    found = which_rule.Map()
    rules = {cls.__name__ for cls in ss.optimizers.registry()}
    assert rules == set(found.rules), "run: python bench/rules_map/run.py"
    assert len(bench.PROBLEMS) >= 60
    for rule, rows in found.rules.items():
        assert set(rows) == {each.name for each in bench.PROBLEMS}, rule
    for name, entry in found.problems.items():
        each = next(p for p in bench.PROBLEMS if p.name == name)
        assert (entry["situation"], entry["goal"]) == (each.situation, each.goal)


def test_gradients_are_those_of_the_losses(bench):
    for each in bench.PROBLEMS:
        task = each.task(1)
        assert task.error(task.params) > 0, each.name
        loss, grads = task.gradient(task.params)
        again = each.task(1)
        assert again.gradient(again.params)[0] == loss, each.name
        if each.situation in ("noise", "moving targets"):
            continue  # the loss is that without the noise
        draw = np.random.default_rng(0).standard_normal
        way = {
            key: draw(x.shape) + (1j * draw(x.shape) if x.dtype.kind == "c" else 0)
            for key, x in task.params.items()
        }
        ends = []
        for step in (1e-6, -1e-6):
            other = each.task(1)
            moved = {key: x + step * way[key] for key, x in other.params.items()}
            ends.append(other.gradient(moved)[0])
        slope = sum(float(np.real(np.vdot(way[key], grads[key]))) for key in way)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-9), each.name


def test_a_piece_of_the_map_is_found_again(bench):
    found = which_rule.Map()
    for rule in ("SGD", "AdamW", "ASGD"):
        for name in ("quadratic turned, easy", "least squares above 0, easy"):
            each = next(p for p in bench.PROBLEMS if p.name == name)
            known, row = found.rules[rule][name], bench.scored(getattr(ss, rule), each)
            assert row.keys() == known.keys()
            assert row.get("passes") == known.get("passes")
            assert row.get("by default") == known.get("by default")
