"""Writes diagnoses.txt: all that is said of drawn histories, so that a change is seen in review.

Run from the root of the repository: ``PYTHONPATH=python:tests/support python
tests/golden/make_diagnoses.py``.
"""

from pathlib import Path

import drawn_histories

GOLDEN = Path(__file__).with_name("diagnoses.txt")

if __name__ == "__main__":
    GOLDEN.write_text(drawn_histories.snapshot(), encoding="utf-8")
