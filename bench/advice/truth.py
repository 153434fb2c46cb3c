"""Measure the truth: the final loss of every task and optimizer over a log grid of constant rates.

python bench/advice/truth.py [--processes N]     writes bench/advice/truth.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from families import make
from tasks import RULES, Task, tasks

import stepsize as ss

PER_DECADE = 4
SEEDS = 3
STORE = Path(__file__).with_name("truth.json")


def final_loss(task: Task, rule: str, rate: float, seed: int) -> float:
    """Loss over all the data after a whole training at a constant rate; NaN if diverged."""
    params = task.params(seed)
    optimizer = make(rule)(params, lr=rate)
    batches = task.batches(seed)
    ceiling = None
    with np.errstate(all="ignore"):
        for _ in range(task.steps):
            loss, grads = task.value_and_grad(params, next(batches))
            if ceiling is None:
                ceiling = loss + 1e6 * (abs(loss) + 1)
            if not loss < ceiling or not all(np.isfinite(g).all() for g in grads.values()):
                return math.nan
            try:
                optimizer.step(grads)
            except ss.NonFiniteGradientError:  # numbers too large to be added up
                return math.nan
        return task.loss(params)


def _penalised(values: list[float], start: float) -> float:
    return float(np.mean([min(v, start) if math.isfinite(v) else start for v in values]))


def measure(name: str, rule: str) -> dict[str, object]:
    """A coarse scan of 14 decades with one seed, then the fine grid with every seed."""
    task = next(t for t in tasks() if t.name == name)
    start = [task.loss(task.params(s)) for s in range(SEEDS)]
    coarse = np.arange(-18, 11) / 2.0
    scan = [_penalised([final_loss(task, rule, 10.0**e, 0)], start[0]) for e in coarse]
    centre = coarse[int(np.argmin(scan))]
    grid = np.round(centre * PER_DECADE + np.arange(-9, 6)) / PER_DECADE
    losses = [[final_loss(task, rule, 10.0**e, s) for s in range(SEEDS)] for e in grid]
    return {
        "task": name,
        "rule": rule,
        "split": task.split,
        "steps": task.steps,
        "start": start,
        "log10_rates": grid.tolist(),
        "losses": [[float(f"{v:.6g}") if math.isfinite(v) else None for v in r] for r in losses],
        "coarse_log10": coarse.tolist(),
        "coarse": [float(f"{v:.6g}") for v in scan],
    }


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--missing", action="store_true", help="keep what truth.json has")
    chosen = parser.parse_args()
    kept = json.loads(STORE.read_text()) if chosen.missing else []
    known = {(row["task"], row["rule"]) for row in kept}
    cells = [(t.name, r) for t in tasks() for r in RULES if (t.name, r) not in known]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows = kept + list(pool.map(measure, *zip(*cells, strict=True)))
    STORE.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    sys.stdout.write(f"{len(rows)} cells written to {STORE.name}\n")


if __name__ == "__main__":
    main()
