"""Steps over 2**31 + 7 elements, with canaries at both ends of every array.

    python bench/scale/beyond_int32.py          rows of such a leaf: a second, no memory
    python bench/scale/beyond_int32.py --dense  every element: some 9 GB of sparse files, minutes

Arrays are files that begin as holes, in the folder that TMPDIR names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss

COUNT = 2**31 + 7
GUARD, MARK = 4096, 0xA5
# Where 32 bits end, signed and unsigned, in elements and in bytes, and the ends of the array.
PLACES = np.array([0, 1, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, COUNT - 1])


class Guarded:
    """An array of zeros between two canaries."""

    def __init__(self, folder: str, name: str, dtype: Any) -> None:
        path = Path(folder) / name
        with open(path, "wb") as file:
            file.truncate(COUNT * np.dtype(dtype).itemsize + 2 * GUARD)
        self.whole = np.memmap(path, np.uint8, "r+")
        self.whole[:GUARD] = self.whole[-GUARD:] = MARK
        self.array = self.whole[GUARD:-GUARD].view(dtype)

    def holds(self) -> bool:
        return bool((self.whole[:GUARD] == MARK).all() and (self.whole[-GUARD:] == MARK).all())


def check(name: str, start: float, x: Guarded, *others: Guarded) -> None:
    moved = x.array[PLACES] == -1
    beside = x.array[[2, 2**29 + 1, 2**31 - 2, 2**31 + 1, COUNT - 2]] == 0
    guards = [array.holds() for array in (x, *others)]
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    if not (moved.all() and beside.all() and all(guards)):
        raise SystemExit(f"{name}: moved {moved}, beside {beside}, canaries {guards}")


def rows(folder: str) -> None:
    start, x = time.perf_counter(), Guarded(folder, "x", np.float32)
    optimizer = ss.SGD({"x": x.array.reshape(COUNT, 1)}, lr=1.0)
    optimizer.step({"x": ss.RowGradient(PLACES, np.ones((PLACES.size, 1), np.float32))})
    check("rows", start, x)


def dense(folder: str) -> None:
    start, x = time.perf_counter(), Guarded(folder, "half", np.float16)
    g = Guarded(folder, "gradient", np.float16)
    g.array[PLACES] = 1
    optimizer = ss.SGD(x.array, lr=1.0, master_weights=False)
    stats = optimizer.step(g.array, stats=True)
    check("dense", start, x, g)
    expected = PLACES.size**0.5
    print(f"norms {stats.grad_norm:.6f} and {stats.update_norm:.6f}, both are {expected:.6f}")
    if abs(stats.grad_norm - expected) + abs(stats.update_norm - expected) > 1e-9:
        raise SystemExit("a norm is wrong")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows(folder)
    if "--dense" in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            dense(folder)


if __name__ == "__main__":
    main()
