"""Score `ss.tune` at the cost of five trainings, on the loss curves that truth.py measured.

    python bench/advice/search.py [--trials N]          needs truth.json

A run's value is read off its task's curve, between the rates of the grid, so that no training is
needed. The method "lr" starts at what `lr_find` says, and gets one run less for its hundred
gradients; the others search the same ten decades.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

import numpy as np
from families import make
from tasks import tasks
from truth import SEEDS, STORE

import stepsize as ss

SPACE = {"lr": ss.LogUniform(1e-7, 1e3)}


def curve(cell: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Exponents and regrets, the coarse scan filling in where the fine grid ends."""
    start = float(np.mean(cell["start"]))
    fine = [
        float(
            np.mean(
                [s if v is None else min(v, s) for v, s in zip(row, cell["start"], strict=True)]
            )
        )
        for row in cell["losses"]
    ]
    low, high = cell["log10_rates"][0], cell["log10_rates"][-1]
    points = list(zip(cell["log10_rates"], fine, strict=True))
    points += [
        (e, min(v, start))
        for e, v in zip(cell["coarse_log10"], cell["coarse"], strict=True)
        if not low <= e <= high
    ]
    points.sort()
    best = min(fine)
    return [e for e, _ in points], [(v - best) / (start - best) for _, v in points]


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5)
    chosen = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    for cell in json.loads(STORE.read_text()):
        exponents, regrets = curve(cell)
        task = next(t for t in tasks() if t.name == cell["task"])

        def objective(
            point: dict[str, float], at: list[float] = exponents, to: list[float] = regrets
        ) -> float:
            value = float(np.interp(math.log10(point["lr"]), at, to))
            return value if value < 0.999 else math.inf

        for seed in range(SEEDS):
            prior = ss.lr_find(
                task.value_and_grad,
                task.params(seed),
                lambda task=task, seed=seed: task.batches(100 + seed),
                optimizer=make(cell["rule"]),
            )
            start = prior.suggestion if prior.usable else None
            for method, given, trials in (
                ("lr", start, chosen.trials - 1),
                ("tpe", None, chosen.trials),
                ("random", None, chosen.trials),
            ):
                result = ss.tune(
                    objective, SPACE, trials=trials, method=method, prior=given, seed=seed
                )
                split = cell["split"]
                found.setdefault((split, method), []).append(min(result.best_value, 1.0))
    for (split, method), values in sorted(found.items()):
        row = np.array(values)
        sys.stdout.write(
            f"{split:12s} {method:8s} median {np.median(row):.4f}  "
            f"p90 {np.quantile(row, 0.9):.3f}  <= 0.05 {np.mean(row <= 0.05):.3f}\n"
        )


if __name__ == "__main__":
    main()
