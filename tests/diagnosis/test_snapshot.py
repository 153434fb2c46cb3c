"""Diagnosis: verdicts, probabilities, numbers and words of many histories are those in review."""

from __future__ import annotations

from pathlib import Path

import pytest

import drawn_histories

GOLDEN = Path(__file__).parents[1] / "golden" / "diagnoses.txt"


@pytest.mark.filterwarnings("ignore")
def test_what_is_said_of_drawn_histories():
    """If it is meant to change: tests/golden/make_diagnoses.py, and read what has."""
    here, kept = drawn_histories.snapshot(), GOLDEN.read_text(encoding="utf-8")
    assert here.splitlines() == kept.splitlines()
