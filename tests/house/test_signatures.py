"""House: arguments, defaults and ranges of what is public are those in review."""

from __future__ import annotations

from pathlib import Path

import public_signatures

GOLDEN = Path(__file__).parents[1] / "golden" / "signatures.txt"


def test_what_all_that_is_public_takes():
    """If it is meant to change: tests/golden/make_signatures.py, and read what has."""
    here, kept = public_signatures.snapshot(), GOLDEN.read_text(encoding="utf-8")
    assert here.splitlines() == kept.splitlines()
