"""Arrays and nests that are far larger than those of the tests.

    python bench/scale/extremes.py rows     rows of a leaf of 2**31 + 7: a second, no memory
    python bench/scale/extremes.py leaves   a hundred thousand leaves: a step, a file and back
    python bench/scale/extremes.py dense    2**31 + 7 elements: 9 GB of files, minutes

Large arrays are files that begin as holes, in the folder that TMPDIR names, with canaries at both
ends.
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


def leaves(folder: str) -> None:
    start, count, path = time.perf_counter(), 100_000, Path(folder) / "leaves.safetensors"
    values = np.linspace(-1, 1, 3 * count, dtype=np.float32)
    g = np.sin(values)
    apart = {f"w{i}": values[3 * i : 3 * i + 3].copy() for i in range(count)}
    whole = values.copy()
    many, one = ss.AdamW(apart), ss.AdamW(whole)
    for _ in range(3):
        many.step({f"w{i}": g[3 * i : 3 * i + 3] for i in range(count)})
        one.step(g)
    ss.save(path, apart, many)
    kept = {name: np.zeros(3, np.float32) for name in apart}
    ss.load(path, kept, ss.AdamW(kept))
    same = [np.concatenate(list(nest.values())).tobytes() for nest in (apart, kept)]
    print(f"leaves: {time.perf_counter() - start:.1f} s")
    if same != [whole.tobytes()] * 2:
        raise SystemExit("many leaves differ from one")


def main() -> None:
    works = {work.__name__: work for work in (rows, leaves, dense)}
    if not sys.argv[1:] or not works.keys() >= set(sys.argv[1:]):
        raise SystemExit(__doc__)
    for word in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            works[word](folder)


if __name__ == "__main__":
    main()
