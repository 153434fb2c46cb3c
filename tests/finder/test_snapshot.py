"""Searches for rates and hyperparameters: what they find, and why, are the numbers in review."""

from __future__ import annotations

from pathlib import Path

import drawn_searches

GOLDEN = Path(__file__).parents[1] / "golden" / "searches.txt"


def test_what_searches_find_on_small_problems():
    """If it is meant to change: tests/golden/make_searches.py, and read what has."""
    here, kept = drawn_searches.snapshot(), GOLDEN.read_text(encoding="utf-8")
    assert here.splitlines() == kept.splitlines()
