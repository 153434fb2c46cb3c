"""Diagnosis: its thresholds and verdicts are tables, each fact said once and each row used."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import stepsize as ss
from stepsize import diagnosis
from stepsize.diagnosis import VERDICTS, checks, thresholds
from stepsize.report.page import Tone

FOLDER = Path(diagnosis.__file__).parent
THRESHOLDS = sorted(name for name in vars(thresholds) if name.isupper())


def tree(name):
    return ast.parse((FOLDER / name).read_text())


USED = Counter(
    node.attr
    for path in FOLDER.glob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("th", "thresholds")
)
IMPORTED = {
    alias.name
    for path in FOLDER.glob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ImportFrom) and node.module == "stepsize.diagnosis.thresholds"
    for alias in node.names
}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_threshold_is_used(name):
    assert USED[name] or name in IMPORTED


def test_every_threshold_says_its_unit_and_its_fit():
    said = {}
    for line in (FOLDER / "thresholds.py").read_text().splitlines():
        found = re.match(r"([A-Z_, ]+) = [^#]*(?:# (.+))?$", line)
        if found:
            said |= dict.fromkeys(found[1].split(", "), found[2])
    assert sorted(said) == THRESHOLDS
    # A count of steps, the limit of theory and factors of the rate were not fitted in any unit.
    free = {n for n in THRESHOLDS if n.startswith(("RAISE", "LOWER"))} | {"FEWEST_STEPS"}
    for name in set(THRESHOLDS) - free:
        assert said[name] and len(said[name]) > 4, name


def test_the_checks_hold_no_number_of_their_own():
    numbers = {
        node.value
        for node in ast.walk(tree("checks.py"))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    }
    assert numbers <= {0, 1, 2}


def test_the_module_lists_every_check_and_the_judge_asks_each():
    asked = {node.id for node in ast.walk(tree("checks.py")) if isinstance(node, ast.Name)}
    for name, value in vars(checks).items():
        if callable(value) and getattr(value, "__module__", "") == checks.__name__:
            assert name in asked or name == "judge", name


@pytest.mark.parametrize("name", VERDICTS)
def test_a_row_of_the_table_is_complete(name):
    row = VERDICTS[name]
    assert row.name == name
    assert row.lead.endswith(".") and row.phrase
    assert row.tone in Tone.__args__
    assert row.watch in ("stop", "warn", "")
    assert "_" not in row.lead + row.phrase


def test_the_monitor_watches_what_the_table_says():
    monitor = ss.DiagnosisMonitor()
    assert monitor.stop == tuple(n for n, v in VERDICTS.items() if v.watch == "stop")
    assert monitor.warn == tuple(n for n, v in VERDICTS.items() if v.watch == "warn")
