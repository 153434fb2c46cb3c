"""Every rule and schedule here is that of its paper, or of what its documentation says instead."""

import json
from dataclasses import replace

import pytest
from tests.conformance import vectors
from tests.conformance.adapters import adapter
from tests.conformance.cases import cases_of, digits, exact
from tests.conformance.compare import rule_results, schedule_results
from tests.conformance.registry import RULES, SCHEDULES

OURS = adapter("stepsize")
STEPS = 5
KEPT = {"agrees", "as documented", "not supported"}


@pytest.mark.parametrize("name", OURS.rules)
def test_a_rule_is_its_papers_or_its_documentations(name):
    results = rule_results(OURS, name, STEPS)
    assert {result.verdict for result in results} <= KEPT, results
    assert results[0].verdict != "not supported"


@pytest.mark.parametrize("name", OURS.schedules)
def test_a_schedule_is_its_papers_or_its_documentations(name):
    results = schedule_results(OURS, name)
    assert {result.verdict for result in results} <= KEPT, results


@pytest.mark.parametrize("name", RULES)
def test_the_vectors_are_what_is_stated(name):
    stored = json.loads((vectors.FOLDER / vectors.file(name)).read_text())["cases"]
    case = next(cases_of(name))
    made = vectors.of_case(case, 2)
    assert stored[0]["results"][:2] == made["results"]
    assert stored[0]["x"] == made["x"] and stored[0].get("gradients", [])[:2] == made.get(
        "gradients", []
    )


def test_enough_is_stated():
    assert len(RULES) >= 45 and len(SCHEDULES) >= 30
    assert len(OURS.rules) >= 45 and len(OURS.schedules) >= 30


@pytest.mark.parametrize("wrong", [{"eps": lambda n: n.eps * 2}, {"lr": lambda n: n.lr * 1.0001}])
def test_a_wrong_number_is_noticed(wrong):
    right = OURS.rules["Adam"]
    binding = replace(right, arguments={**right.arguments, **wrong})
    case = next(cases_of("Adam", 2))
    for tried, least, most in ((right, 14, 50), (binding, 0, 5)):
        found = OURS.trajectory(tried, case)
        assert least < digits(found, exact(case), case.x0())[0] < most
