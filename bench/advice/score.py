"""Score rules for choosing a rate: each suggestion is trained with, three seeds, against the grid.

    python bench/advice/score.py [--processes N] [--refine]     needs truth.json, made by truth.py

Regret is (loss - best) / (start - best), all at the end of a constant-rate training over the task's
own length: 0 is as good as the best rate of the grid, 1 is nothing learnt or diverged. The scores
are printed and written to scores.json.
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
from typing import Any

import numpy as np
from families import make
from tasks import SPLITS, Task, tasks
from truth import SEEDS, STORE, final_loss

import stepsize as ss
from stepsize.arrays import Curve
from stepsize.curves import debiased_ema
from stepsize.finder.suggestions import classical

DEFAULTS = {
    "sgd": 1e-3,
    "momentum": 1e-3,
    "adam": 1e-3,
    "rmsprop": 1e-2,
    "adagrad": 1e-2,
    "lion": 1e-4,
}


def range_test(task: Task, rule: str, seed: int) -> tuple[Curve, Curve]:
    """The peers' sweep: a hundred rates, over to infinity or four times the best average."""
    lrs = np.geomspace(1e-7, 10, 100)
    params = task.params(seed)
    optimizer = make(rule)(params)
    batches = task.batches(100 + seed)
    losses: list[float] = []
    with np.errstate(all="ignore"):
        for lr in lrs:
            loss, grads = task.value_and_grad(params, next(batches))
            finite = all(np.isfinite(g).all() for g in grads.values())
            if not math.isfinite(loss) or not finite:
                break
            losses.append(loss)
            average = debiased_ema(np.array(losses), 0.98)
            if average[-1] > 4 * average.min() and len(losses) > 1:
                break
            optimizer.lr = float(lr)
            try:
                optimizer.step(grads)
            except ss.NonFiniteGradientError:  # numbers too large to be added up
                break
    return lrs[: len(losses)], np.array(losses)


def peers(task: Task, rule: str, seed: int) -> dict[str, float]:
    """What other packages' rules say of that sweep, and torch's default without one."""
    lrs, losses = range_test(task, rule, seed)
    found = {f"fastai {k}": v for k, v in classical(lrs, debiased_ema(losses, 0.98)).items()}
    own = losses.copy()
    for k in range(1, len(own)):
        own[k] = 0.05 * own[k] + 0.95 * own[k - 1]
    cut = slice(10, -5)
    if len(lrs[cut]) > 2:
        found["torch-lr-finder"] = float(lrs[cut][int(np.gradient(own[cut]).argmin())])
    cut = slice(10, -1)
    if len(lrs[cut]) > 2:
        average = debiased_ema(losses, 0.98)[cut]
        found["lightning"] = float(lrs[cut][int(np.gradient(average, lrs[cut]).argmin())])
    found["torch default"] = DEFAULTS[rule]
    return found


def advise(job: tuple[str, str, int, bool]) -> list[dict[str, Any]]:
    """One row per rule: the rate, what came of it, and what the finder said of its confidence."""
    name, rule, seed, refine = job
    task = next(t for t in tasks() if t.name == name)
    rates = {k: (v, None) for k, v in peers(task, rule, seed).items()}

    def find(**keywords: Any) -> ss.LRFindResult:
        return ss.lr_find(
            task.value_and_grad,
            task.params(seed),
            lambda: task.batches(100 + seed),
            optimizer=make(rule),
            **keywords,
        )

    found = [("stepsize", find())]
    if refine:
        found.append(("stepsize refine", find(refine=task.steps)))
    rows = []
    for label, result in found:
        rates[label] = (result.suggestion, result)
    for label, (rate, result) in rates.items():
        row = {"task": name, "rule": rule, "seed": seed, "split": task.split, "label": label}
        loss = final_loss(task, rule, rate, seed) if math.isfinite(rate) else math.nan
        row |= {"rate": rate, "loss": loss}
        if result is not None:
            row |= {"confidence": result.confidence, "interval": result.interval}
            row |= {"gradients": result.gradients}
        rows.append(row)
    return rows


def regret(row: dict[str, Any], truth: dict[str, Any]) -> float:
    """Against the best cell of the grid for the same seed."""
    start = truth["start"][row["seed"]]
    column = [losses[row["seed"]] for losses in truth["losses"]]
    best = min(start if v is None else v for v in column)
    loss = min(row["loss"], start) if math.isfinite(row["loss"]) else start
    return float(np.clip((loss - best) / (start - best), 0, 1))


def mean_regrets(truth: dict[str, Any]) -> tuple[list[float], list[float]]:
    """The exponents of the grid and their regrets, of the means over the seeds."""
    start = np.array(truth["start"])
    table = [
        np.mean([s if v is None else min(v, s) for v, s in zip(row, start, strict=True)])
        for row in truth["losses"]
    ]
    best = np.min(table)
    return truth["log10_rates"], [float((t - best) / (start.mean() - best)) for t in table]


def best_rate(truth: dict[str, Any]) -> float:
    """The rate of the grid with the lowest mean loss."""
    exponents, regrets = mean_regrets(truth)
    return float(10 ** exponents[int(np.argmin(regrets))])


def line(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    values = np.array([r["regret"] for r in rows])
    return {
        "rule": name,
        "runs": len(values),
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "within_0.05": float(np.mean(values <= 0.05)),
        "within_0.20": float(np.mean(values <= 0.20)),
        "diverged": float(np.mean([not math.isfinite(r["loss"]) for r in rows])),
    }


def intervals(name: str, rows: list[dict[str, Any]]) -> str:
    """How wide the intervals are, and what they hold of the mean regrets of the grid, in words."""
    widths, lowest, good, share = [], [], [], []
    for row in rows:
        low, high = np.log10(row["interval"]) + np.array([-1e-9, 1e-9])
        widths.append(high - low)
        rates, regrets = (np.array(v) for v in row["grid"])
        inside = (rates >= low) & (rates <= high)
        lowest.append(inside[int(np.argmin(regrets))])
        good.append((inside & (regrets <= 0.01)).any())
        if inside.any():
            share.append((regrets[inside] <= 0.05).mean())
    return (
        f"{name}: interval of {np.median(widths):.2f} decades, with a regret <= 0.01 inside "
        f"{np.mean(good):.3f}, the lowest {np.mean(lowest):.3f}; of its rates <= 0.05 "
        f"{np.mean(share):.3f}"
    )


def report(rows: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
    lines = [
        line(label, [r for r in rows if r["label"] == label])
        for label in dict.fromkeys(r["label"] for r in rows)
    ]
    ours = [r for r in rows if "confidence" in r]
    for label in dict.fromkeys(r["label"] for r in ours):
        for confidence in ("high", "medium", "low"):
            part = [r for r in ours if (r["label"], r["confidence"]) == (label, confidence)]
            if part:
                lines.append(line(f"{label}, {confidence}", part))
    out = [f"\n{title}", f"{'rule':30s} runs  median   p90   <=.05  <=.20  diverged"]
    out += [
        f"{x['rule']:30s} {x['runs']:4d}  {x['median']:.4f}  {x['p90']:.3f}  "
        f"{x['within_0.05']:.3f}  {x['within_0.20']:.3f}  {x['diverged']:.3f}"
        for x in lines
    ]
    for label in dict.fromkeys(r["label"] for r in ours):
        out.append(intervals(label, [r for r in ours if r["label"] == label]))
    sys.stdout.write("\n".join(out) + "\n")
    return lines


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--splits", nargs="+", default=SPLITS, choices=SPLITS)
    chosen = parser.parse_args()
    truth = {(r["task"], r["rule"]): r for r in json.loads(STORE.read_text())}
    truth = {cell: r for cell, r in truth.items() if r["split"] in chosen.splits}
    jobs = [(*cell, seed, chosen.refine) for cell in truth for seed in range(SEEDS)]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows = [row for some in pool.map(advise, jobs, chunksize=4) for row in some]
    for row in rows:
        cell = truth[row["task"], row["rule"]]
        row |= {"regret": regret(row, cell), "grid": mean_regrets(cell)}
    store = Path(__file__).with_name("scores.json")
    scores = json.loads(store.read_text()) if store.exists() else {}
    for split in chosen.splits:
        scores[split] = report([r for r in rows if r["split"] == split], split)
    store.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
