"""Muon beside torch.optim.Muon, SOAP and Shampoo beside their NumPy statements, on many matrices.

Run: ``python bench/bench_matrix.py``. Medians of alternating steps. Answers are checked: those of
Muon beside torch's, which are rounded to bfloat16 on the way, the others for equal bits.
"""

import argparse
import time

import numpy as np

import stepsize as ss
from stepsize.optimizers.rules.muon import Muon

SIZES = ((64, 1000), (256, 100), (1024, 1))


def matrices(n: int, count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"w{i}": random.normal(size=(n, n)).astype(np.float32) for i in range(count)}


def torch_steps(n, count):
    import torch

    torch.set_num_threads(ss.build_info()["threads"])
    params = [torch.nn.Parameter(torch.from_numpy(x)) for x in matrices(n, count, 0).values()]
    for p, g in zip(params, matrices(n, count, 1).values(), strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = torch.optim.Muon(params, lr=1e-3)
    return optimizer.step, [p.detach().numpy() for p in params]


def our_steps(cls, n, count, compiled=True):
    params, grads = matrices(n, count, 0), matrices(n, count, 1)
    kept, cls.accelerated = cls.accelerated, cls.accelerated and compiled
    optimizer = cls(params, lr=1e-3)
    cls.accelerated = kept
    return (lambda: optimizer.step(grads)), list(params.values())


def timed(steps, rounds):
    """The median milliseconds of each, one after the other in every round."""
    times = [[] for _ in steps]
    for _ in range(rounds):
        for step, into in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            into.append(1e3 * (time.perf_counter() - start))
    return [float(np.median(found)) for found in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rules", nargs="*", default=["Muon", "SOAP", "Shampoo"])
    given = parser.parse_args()
    print(f"{ss.build_info()['target']}, {ss.build_info()['threads']} threads")
    if "Muon" in given.rules:
        for n, count in SIZES:
            (theirs, their), (ours, our) = torch_steps(n, count), our_steps(Muon, n, count)
            theirs()
            ours()
            # Theirs is rounded to bfloat16 on the way.
            apart = max(np.abs(a - b).max() for a, b in zip(their, our, strict=True))
            assert 0 < apart < 2e-4, apart
            a, b = timed([theirs, ours], given.rounds)
            print(f"Muon {count} x {n} x {n}: torch {a:.1f} ms, stepsize {b:.1f} ms, {a / b:.2f}x")
    for name in set(given.rules) - {"Muon"}:
        cls = getattr(ss, name)
        (plain, one), (fast, two) = our_steps(cls, 256, 100, False), our_steps(cls, 256, 100)
        a, b = timed([plain, fast], given.rounds)
        assert all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))
        print(f"{name} 100 x 256 x 256: NumPy {a:.1f} ms, stepsize {b:.1f} ms, {a / b:.2f}x")


if __name__ == "__main__":
    main()
