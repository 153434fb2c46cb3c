"""Instructions of one step, counted by valgrind: a measure of overhead that noise cannot touch.

    python bench/instructions.py          prints a table
    python bench/instructions.py --check  exits with 1 if a count is above its limit

Needs valgrind. Counts are of AdamW in float32 with the avx2 kernels; "two rules" are AdamW and Lion
over every other array, in a `Partition` or as two optimizers that are stepped by hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

# Instructions a step may take: about a tenth more than it took when the limit was set.
LIMITS = {
    ("1 x 1000", "dict"): 10_600,
    ("1 x 1000", "bound"): 10_230,
    ("1 x 1000", "functional"): 30_100,
    ("2 x 64", "two rules"): 7_640,
    ("2 x 64", "two rules, by hand"): 8_250,
    ("1000 x 100", "dict"): 1_390_000,
    ("1000 x 100", "bound"): 1_270_000,
    ("1000 x 100", "packed"): 915_000,
    ("1000 x 100", "packed, bound"): 805_000,
    ("1000 x 100", "functional"): 1_840_000,
}

PROGRAM = """
import sys
import numpy as np
import stepsize as ss

shape, form, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
count, size = map(int, shape.split(" x "))
draw = np.random.default_rng(0).standard_normal

def aligned(values):
    # Where an array starts in a cache line decides how many elements the kernel takes one by one.
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array = memory[start : start + values.nbytes].view(values.dtype)
    array[:] = values
    return array

params = {f"w{i}": aligned(np.zeros(size, np.float32)) for i in range(count)}
grads = {key: aligned(draw(size).astype(np.float32)) for key in params}
if "packed" in form:
    params, grads = ss.pack(params), ss.pack(grads)
if form == "functional":
    params, grads = list(params.values()), list(grads.values())
    state = ss.functional.state("adamw", params)
    first, second = state["exp_avg"], state["exp_avg_sq"]

    def step():
        ss.functional.adamw_(params, grads, first, second, step=1, lr=1e-3)
elif form == "two rules, by hand":
    even = {key: leaf for key, leaf in params.items() if int(key[1:]) % 2 == 0}
    odd = {key: leaf for key, leaf in params.items() if key not in even}
    given = [{key: grads[key] for key in part} for part in (even, odd)]
    first, second = ss.AdamW(even), ss.Lion(odd)

    def step():
        first.step(given[0])
        second.step(given[1])
else:
    rules = {"w*[02468]": ss.AdamW, "*": ss.Lion}
    opt = ss.Partition(rules, params) if form == "two rules" else ss.AdamW(params)
    if "bound" in form:
        opt.bind(grads)
    arguments = () if "bound" in form else (grads,)

    def step():
        opt.step(*arguments)

for _ in range(steps):
    step()
"""


def count(shape: str, form: str, steps: int) -> int:
    """Instructions of a whole run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    environment = {
        **os.environ,
        "STEPSIZE_TARGET": "avx2",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(
        [*command, "-c", PROGRAM, shape, form, str(steps)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: {done.stderr[-500:]}")
    return int(found[1])


def main() -> int:
    over = 0
    print(f"{'AdamW':<26}{'instructions':>14}{'limit':>12}")
    for (shape, form), limit in LIMITS.items():
        few = 200 if len(shape) < 9 else 5
        step = (count(shape, form, 11 * few) - count(shape, form, few)) / (10 * few)
        over += step > limit
        label, mark = f"{shape}, {form}", "  above" if step > limit else ""
        print(f"{label:<26}{step:>14,.0f}{limit:>12,}{mark}", flush=True)
    return int("--check" in sys.argv and over > 0)


if __name__ == "__main__":
    sys.exit(main())
