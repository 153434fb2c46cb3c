"""The question that a schema in Python asks: is this mutant the one on trial?"""

import os

HITS = bytearray(1 << 16)
current = int(os.environ.get("STEPSIZE_MUTANT", "-1"))


def __mutant__(number: int) -> bool:
    HITS[number] = 1
    return number == current
