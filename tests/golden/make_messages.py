"""Writes messages.txt: what every entry point says of every wrong value, for review.

Run from the root of the repository: ``PYTHONPATH=python:tests/support python
tests/golden/make_messages.py``. It prints what is no help to a stranger.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bad_inputs

GOLDEN = Path(__file__).with_name("messages.txt")


def main() -> int:
    found = list(bad_inputs.answers())
    GOLDEN.write_text(bad_inputs.snapshot(found), encoding="utf-8")
    faulty = [(answer, answer.faults()) for answer in found if answer.faults()]
    for answer, faults in faulty:
        print(f"{answer.door}, {answer.argument}={answer.kind}: {', '.join(faults)}")
        print(f"    {answer.words()}")
    print(f"{len(found)} wrong values, {len(faulty)} faults")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())
