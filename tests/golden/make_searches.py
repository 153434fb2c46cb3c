"""Writes searches.txt: all that searches find on small problems, for review.

Run from the root of the repository: ``PYTHONPATH=python:tests/support python
tests/golden/make_searches.py``.
"""

from pathlib import Path

import drawn_searches

GOLDEN = Path(__file__).with_name("searches.txt")

if __name__ == "__main__":
    GOLDEN.write_text(drawn_searches.snapshot(), encoding="utf-8")
