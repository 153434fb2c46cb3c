"""The suite of statements drives torch and optax: what agrees and what differs is found again."""

import json
import sys
from pathlib import Path

import pytest
from tests.conformance import rules, schedules  # noqa: F401  which are registered by it
from tests.conformance.adapters import adapter
from tests.conformance.compare import rule_results, schedule_results

PUBLISHED = Path(__file__).parents[2] / "docs" / "conformance-results"
STEPS = 3
LACKS = {"differs", "error"}
RULES = {
    "torch": ["SGD", "Adagrad", "AdamW", "RMSprop", "Rprop", "RAdam", "Muon"],
    "optax": ["SGD", "AdamW", "Lion"],
}


@pytest.fixture(autouse=True)
def single_precision_of_jax():
    """The adapter of optax computes in double precision, which holds for the whole process."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", RULES)
def test_rules_are_as_published(name):
    pytest.importorskip(name)
    library = adapter(name)
    published = json.loads((PUBLISHED / f"{name}.json").read_text())["results"]
    for rule in RULES[name]:
        known = {row["case"]: row["verdict"] for row in published if row["rule"] == rule}
        found = {result.case: result.verdict for result in rule_results(library, rule, STEPS)}
        assert "agrees" in found.values() or "as documented" in found.values(), rule
        # In a few steps two forms may agree, or a difference not show.
        assert found.keys() == known.keys()
        new = {
            case for case, verdict in found.items() if verdict in LACKS and known[case] not in LACKS
        }
        assert not new, rule


def test_a_difference_is_found():
    pytest.importorskip("torch")
    results = schedule_results(adapter("torch"), "one cycle")
    assert [r.case for r in results if r.verdict == "differs"] == ["past the end"]


def test_the_form_that_a_library_computes_is_named():
    """optax corrects Muon's average as Adam's, and takes the columns of a matrix for outputs."""
    pytest.importorskip("optax")
    for result in rule_results(adapter("optax"), "Muon", STEPS):
        assert result.verdict == "differs"
        assert "momentum corrected average" in result.note
