"""Score `ss.autolr`, and the peak of `lr_find`, against a grid of peaks and schedules.

    python bench/advice/automatic.py [--processes N]          needs truth.json

Trainings under two schedules at peaks around the best constant rate are measured first, where
schedules.json does not have them, one seed each. `autolr` is then given nothing but the number of
steps; its regret is against the best cell of all: constant rates, cosines and one-cycles. The
regret of `lr_find(...).peak` is read off the curve of its schedule, between the peaks measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from families import make
from score import best_rate
from tasks import SPLITS, Task, tasks
from truth import STORE

import stepsize as ss

SCHEDULES = Path(__file__).with_name("schedules.json")
KINDS = {
    "cosine": lambda peak, steps: ss.schedules.warmup_cosine(peak, max(1, steps // 20), steps),
    "one_cycle": lambda peak, steps: ss.schedules.one_cycle(peak, steps),
}
SHIFTS = np.arange(-2, 5) / 4

Cell = tuple[str, str]


def task_of(name: str) -> Task:
    return next(t for t in tasks() if t.name == name)


def final_loss(task: Task, rule: str, lr: Any) -> float:
    """Loss over all the data after a training under a schedule; NaN if it diverged."""
    params = task.params(0)
    optimizer = make(rule)(params, lr=lr)
    with np.errstate(all="ignore"):
        for batch in islice(task.batches(0), task.steps):
            loss, grads = task.value_and_grad(params, batch)
            if not math.isfinite(loss) or not all(np.isfinite(g).all() for g in grads.values()):
                return math.nan
            try:
                optimizer.step(grads)
            except ss.NonFiniteGradientError:  # numbers too large to be added up
                return math.nan
        return task.loss(params)


def measure(job: tuple[str, str, str, float]) -> dict[str, Any]:
    """Final losses under one schedule, at peaks around the best constant rate."""
    name, rule, kind, best = job
    task = task_of(name)
    exponents = np.round(math.log10(best) + SHIFTS, 4)
    losses = [final_loss(task, rule, KINDS[kind](10.0**e, task.steps)) for e in exponents]
    kept = [float(f"{v:.6g}") if math.isfinite(v) else None for v in losses]
    row = {"task": name, "rule": rule, "kind": kind}
    return row | {"log10_peaks": exponents.tolist(), "losses": kept}


def advised(cell: Cell) -> tuple[float, float]:
    """The loss that autolr ends with, and the peak that lr_find gives."""
    task, rule = task_of(cell[0]), make(cell[1])
    found = ss.lr_find(
        task.value_and_grad, task.params(0), lambda: task.batches(100), optimizer=rule
    )
    params = task.params(0)

    def stream() -> Any:
        return task.batches(0)

    try:
        with np.errstate(all="ignore"):
            ss.autolr(
                task.value_and_grad,
                params,
                stream,
                steps=task.steps,
                optimizer=rule,
                progress=False,
            )
    except (ValueError, ss.NonFiniteGradientError):
        return math.inf, found.peak
    return task.loss(params), found.peak


def regrets(cell: dict[str, Any], rows: list[dict[str, Any]], loss: float, peak: float) -> Any:
    """Of autolr, and of the peak under each schedule."""
    start = cell["start"][0]

    def held(values: list[float | None]) -> np.ndarray:
        return np.array([start if v is None else min(v, start) for v in values])

    best = min(
        held([row[0] for row in cell["losses"]]).min(), *(held(r["losses"]).min() for r in rows)
    )
    ended = min(loss, start) if math.isfinite(loss) else start
    out = {"autolr": float(np.clip((ended - best) / (start - best), 0, 1))}
    for row in rows:
        curve = held(row["losses"])
        there = float(np.interp(math.log10(peak), row["log10_peaks"], curve)) if peak > 0 else start
        out[f"peak, {row['kind']}"] = (there - curve.min()) / (start - curve.min())
    return out


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--splits", nargs="+", default=SPLITS)
    chosen = parser.parse_args()
    truth = [r for r in json.loads(STORE.read_text()) if r["split"] in chosen.splits]
    rows = json.loads(SCHEDULES.read_text()) if SCHEDULES.exists() else []
    known = {(r["task"], r["rule"], r["kind"]) for r in rows}
    jobs = [(c["task"], c["rule"], kind, best_rate(c)) for c in truth for kind in KINDS]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows += pool.map(measure, [job for job in jobs if job[:3] not in known], chunksize=4)
        SCHEDULES.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
        ended = list(pool.map(advised, [(c["task"], c["rule"]) for c in truth], chunksize=4))
    found: dict[tuple[str, str], list[float]] = {}
    for cell, (loss, peak) in zip(truth, ended, strict=True):
        own = [r for r in rows if (r["task"], r["rule"]) == (cell["task"], cell["rule"])]
        for name, value in regrets(cell, own, loss, peak).items():
            found.setdefault((cell["split"], name), []).append(value)
    for (split, name), values in sorted(found.items()):
        v = np.array(values)
        sys.stdout.write(
            f"{split:12s} {name:16s} runs {len(v)}  median {np.median(v):.4f}  "
            f"p90 {np.quantile(v, 0.9):.3f}  <= 0.05 {np.mean(v <= 0.05):.3f}  "
            f"<= 0.20 {np.mean(v <= 0.2):.3f}\n"
        )


if __name__ == "__main__":
    main()
