"""How many rules give the same bits on three instruction sets, here and in torch.optim.

    python bench/bits_beside_torch.py [--steps N]

Every rule that both have makes the same steps, with the same gradients, from the same parameters,
in processes of their own: each under the instruction set of every processor, AVX2 and AVX-512
(torch's `ATEN_CPU_CAPABILITY`, our `STEPSIZE_TARGET`) and with one and two threads. Counted are the
rules whose parameters have the same bits in all of them. Nothing is timed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict

import numpy as np

RULES = ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop"]
RULES += ["Rprop", "SGD"]
TARGETS = {"default": "baseline", "avx2": "avx2", "avx512": "avx512"}
SHAPES = [(300, 301), (1001,), (7,)]
RATE = 0.01


def start() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in SHAPES]


def gradients(steps: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(1)
    return [
        [rng.standard_normal(shape, dtype=np.float32) for shape in SHAPES] for _ in range(steps)
    ]


def digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def of_torch(steps: int, threads: int) -> dict[str, str]:
    import torch

    torch.set_num_threads(threads)
    found = {}
    for rule in RULES:
        params = [torch.nn.Parameter(torch.from_numpy(array)) for array in start()]
        optimizer = getattr(torch.optim, rule)(params, lr=RATE)
        for grads in gradients(steps):
            for param, grad in zip(params, grads, strict=True):
                param.grad = torch.from_numpy(grad)
            optimizer.step()
        found[rule] = digest([param.detach().numpy() for param in params])
    return found


def of_ours(steps: int, threads: int) -> dict[str, str]:
    import stepsize as ss

    ss.set_num_threads(threads)
    found = {}
    for rule in RULES:
        params = start()
        optimizer = getattr(ss, rule)(params, lr=RATE)
        for grads in gradients(steps):
            optimizer.step(grads)
        found[rule] = digest(params)
    return found


LIBRARIES = {"torch": of_torch, "stepsize": of_ours}


def compare(steps: int) -> dict[str, list[str]]:
    """The rules whose bits differ, by library."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for library in LIBRARIES:
        for theirs, ours in TARGETS.items():
            for threads in (1, 2):
                command = [sys.executable, __file__, "--steps", str(steps)]
                command += ["--one", library, str(threads)]
                environment = {**os.environ, "ATEN_CPU_CAPABILITY": theirs, "STEPSIZE_TARGET": ours}
                answer = subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                )
                for rule, bits in json.loads(answer.stdout).items():
                    found[library][rule].add(bits)
    return {
        library: [rule for rule, bits in rules.items() if len(bits) > 1]
        for library, rules in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        library, threads = options.one
        print(json.dumps(LIBRARIES[library](options.steps, int(threads))))
        return
    for library, differing in compare(options.steps).items():
        same = len(RULES) - len(differing)
        print(f"{library}: the same bits in {same} of {len(RULES)} rules", end="")
        print(f"; not in {', '.join(differing)}" if differing else "")


if __name__ == "__main__":
    main()
