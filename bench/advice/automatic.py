"""Score `ss.autolr`, and the peak of `lr_find`, against a grid of peaks and schedules.

    python bench/advice/automatic.py [--processes N] [--schedules ...]        needs truth.json

Trainings under four schedules at peaks around the best constant rate are measured first, where
schedules.json does not have them, one seed each. `autolr` is then given nothing but the number of
steps and a schedule; its regret is against the best cell of all: constant rates, cosines and
one-cycles. The regret of `lr_find(...).peak` is read off the curve of its schedule, between the
peaks measured. At the end the schedules are compared, each at its best peak and as `autolr` trains
with it: how often the loss ends lower than under the cosine, and by how much it is worse at most.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
from stepsize.automatic.plans import PLANS

SCHEDULES = Path(__file__).with_name("schedules.json")
KINDS = {
    "cosine": lambda peak, steps: ss.schedules.warmup_cosine(peak, max(1, steps // 20), steps),
    "one_cycle": lambda peak, steps: ss.schedules.one_cycle(peak, steps),
    "linear": PLANS["linear"],
    "cooldown": PLANS["cooldown"],
}
REFERENCE = ("cosine", "one_cycle")  # what regrets are against, beside constant rates
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


def peak_of(cell: Cell) -> float:
    """The peak that lr_find gives."""
    task, rule = task_of(cell[0]), make(cell[1])
    batches = partial(task.batches, 100)
    return ss.lr_find(task.value_and_grad, task.params(0), batches, optimizer=rule).peak


def trained(job: tuple[str, str, str]) -> float:
    """The loss that autolr ends with under a schedule."""
    task, rule = task_of(job[0]), make(job[1])
    params = task.params(0)
    try:
        with np.errstate(all="ignore"):
            ss.autolr(
                task.value_and_grad,
                params,
                partial(task.batches, 0),
                steps=task.steps,
                optimizer=rule,
                schedule=job[2],
                progress=False,
            )
    except (ValueError, ss.NonFiniteGradientError):
        return math.inf
    return task.loss(params)


class Scale:
    """Regrets of one cell."""

    def __init__(self, cell: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        own = [r for r in rows if (r["task"], r["rule"]) == (cell["task"], cell["rule"])]
        self.start = cell["start"][0]
        self.curves = {r["kind"]: (r["log10_peaks"], self.held(r["losses"])) for r in own}
        lows = [self.curves[kind][1].min() for kind in REFERENCE]
        self.best = min(self.held([row[0] for row in cell["losses"]]).min(), *lows)

    def held(self, values: list[float | None]) -> np.ndarray:
        return np.array([self.start if v is None else min(v, self.start) for v in values])

    def regret(self, loss: float) -> float:
        ended = min(loss, self.start) if math.isfinite(loss) else self.start
        return float(np.clip((ended - self.best) / (self.start - self.best), 0, 1))

    def of_peak(self, peak: float, kind: str) -> float:
        places, curve = self.curves[kind]
        there = float(np.interp(math.log10(peak), places, curve)) if peak > 0 else self.start
        return (there - curve.min()) / (self.start - curve.min())


def said(split: str, name: str, values: list[float]) -> None:
    v = np.array(values)
    sys.stdout.write(
        f"{split:12s} {name:16s} runs {len(v)}  median {np.median(v):.4f}  "
        f"p90 {np.quantile(v, 0.9):.3f}  <= 0.05 {np.mean(v <= 0.05):.3f}  "
        f"<= 0.20 {np.mean(v <= 0.2):.3f}\n"
    )


def compared(split: str, name: str, ends: list[tuple[float, float, Scale]]) -> None:
    """Ends under one schedule beside those under the cosine."""
    lower = np.mean([other < cosine for cosine, other, _ in ends])
    worse = max((other - cosine) / (s.start - s.best) for cosine, other, s in ends)
    sys.stdout.write(
        f"{split:12s} {name:24s} runs {len(ends)}  lower than the cosine in {lower:.2f}, at most "
        f"{worse:.3f} worse\n"
    )


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--splits", nargs="+", default=SPLITS)
    parser.add_argument("--schedules", nargs="+", default=list(PLANS), choices=PLANS)
    chosen = parser.parse_args()
    truth = [r for r in json.loads(STORE.read_text()) if r["split"] in chosen.splits]
    cells = [(c["task"], c["rule"]) for c in truth]
    rows = json.loads(SCHEDULES.read_text()) if SCHEDULES.exists() else []
    known = {(r["task"], r["rule"], r["kind"]) for r in rows}
    jobs = [
        (*cell, kind, best_rate(c)) for cell, c in zip(cells, truth, strict=True) for kind in KINDS
    ]
    runs = [(*cell, schedule) for cell in cells for schedule in chosen.schedules]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows += pool.map(measure, [job for job in jobs if job[:3] not in known], chunksize=4)
        SCHEDULES.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
        peaks = list(pool.map(peak_of, cells, chunksize=4))
        losses = dict(zip(runs, pool.map(trained, runs, chunksize=4), strict=True))
    scales = [Scale(c, rows) for c in truth]
    for split in chosen.splits:
        part = [k for k, c in enumerate(truth) if c["split"] == split]
        for kind in REFERENCE:
            said(split, f"peak, {kind}", [scales[k].of_peak(peaks[k], kind) for k in part])
        for name in chosen.schedules:
            ended = {k: losses[(*cells[k], name)] for k in part}
            said(split, f"autolr, {name}", [scales[k].regret(v) for k, v in ended.items()])
            lows = [tuple(scales[k].curves[q][1].min() for q in ("cosine", name)) for k in part]
            both = [(*low, scales[k]) for low, k in zip(lows, part, strict=True)]
            compared(split, f"best peak, {name}", both)
            if "cosine" in chosen.schedules:
                pairs = [
                    (*(min(losses[(*cells[k], q)], s.start) for q in ("cosine", name)), s)
                    for k, s in ((k, scales[k]) for k in part)
                ]
                compared(split, f"autolr, {name}", pairs)


if __name__ == "__main__":
    main()
