"""Writes signatures.txt: what all that is public takes, so that a change is seen in review.

Run from the root of the repository: ``PYTHONPATH=python:tests/support python
tests/golden/make_signatures.py``.
"""

from pathlib import Path

import public_signatures

GOLDEN = Path(__file__).with_name("signatures.txt")

if __name__ == "__main__":
    GOLDEN.write_text(public_signatures.snapshot(), encoding="utf-8")
