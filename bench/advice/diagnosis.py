"""Score `ss.diagnose`: histories labelled by the truth, not by their curves.

    python bench/advice/diagnosis.py [--processes N] [--save FILE]          needs truth.json

A run at a rate of the grid is labelled
    diverging     its loss over all the data ended above its start, or was not finite;
    overfitting   since it was best on held-out data, by a tenth of all it gained there, its loss
                  on the training data has fallen;
    too_low, too_high   its regret is above 0.1 and the best rate is higher, lower;
    healthy       it is near the best, and training on at the same rate still gains 3 %;
    plateau       training on gains nothing, a tenth of the rate gains 3 %;
    underfitting  neither gains anything, but a larger model does (tasks named in LARGER);
    converged     nothing gains anything.
Runs with a regret between 0.05 and 0.1 lie between two labels and are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import models
import numpy as np
from families import make
from tasks import RULES, Task, tasks
from truth import STORE

import stepsize as ss
from stepsize.diagnosis import VERDICTS

SHIFTS = (-3, -2, -1.25, -0.75, 0, 0.5, 1, 2, 3)
GAIN = 0.03
# Linear models that a hidden layer beats.
LARGER = {
    "digits-hinge": models.mlp([64, 48, 1], models.hinge_head, "relu", l2=1e-3),
    "diabetes-raw-target": models.mlp([10, 48, 1], models.square_head, "relu"),
    "poisson": models.mlp([10, 48, 1], models.poisson_head),
}
SCARCE = ("digits-tanh", "cancer-mlp", "diabetes-mlp", "wine-mlp", "digits-linear", "text-1")


@cache
def subjects() -> tuple[Task, ...]:
    """The tasks, and copies of some with so little data that they overfit."""
    scarce = [
        replace(
            t,
            name=f"{t.name}-scarce",
            data=tuple(a[:: max(1, len(a) // 160)] for a in t.data),
            batch_size=min(t.batch_size, 16),
        )
        for t in tasks()
        if t.name in SCARCE
    ]
    return (*tasks(), *scarce)


class Runner:
    """A training that can go on, with part of the data held out."""

    def __init__(self, task: Task, rule: str, rate: float) -> None:
        rows = np.arange(len(task.data[0]))
        held = (rows % 4 == 3) & (len(rows) > 40)
        self.held = tuple(a[held] for a in task.data) if held.any() else None
        kept = tuple(a[~held] for a in task.data)
        size = min(task.batch_size, len(kept[0]))
        self.task = replace(task, data=kept, batch_size=size)
        self.params = self.task.params(0)
        self.start = self.task.loss(self.params)
        self.optimizer = make(rule)(self.params, lr=rate)
        self.batches = self.task.batches(0)
        self.history: dict[str, list[float]] = {
            k: [] for k in ("loss", "lr", "grad_norm", "update_ratio", "val_loss")
        }
        self.levels: list[tuple[float, float]] = []
        self.lost = False

    def train(self, steps: int) -> float:
        """Train on and return the loss over the training data; NaN when it is lost."""
        for step in range(steps):
            if self.lost:
                break
            self._step(step % max(1, self.task.steps // 20) == 0)
        loss = self.task.loss(self.params)
        return math.nan if self.lost or not math.isfinite(loss) else loss

    def _step(self, validate: bool) -> None:
        row = dict.fromkeys(self.history, math.nan)
        with np.errstate(all="ignore"):
            loss, grads = self.task.value_and_grad(self.params, next(self.batches))
            row |= {"loss": loss, "lr": self.optimizer.lr}
            try:
                stats = self.optimizer.step(grads, stats=True)
                row |= {"grad_norm": stats.grad_norm, "update_ratio": stats.update_ratio}
            except ss.NonFiniteGradientError:
                self.lost = True
            if self.held is not None and validate and not self.lost:
                row["val_loss"] = self.task.value_and_grad(self.params, self.held)[0]
                self.levels.append((self.task.loss(self.params), row["val_loss"]))
        self.lost = self.lost or not math.isfinite(loss)
        for name, value in row.items():
            self.history[name].append(value)


def _best(task: Task, rule: str, truth: dict[tuple[str, str], Any]) -> float:
    """The exponent of the best rate of the grid."""
    cell = truth[task.name.removesuffix("-scarce"), rule]
    table = [
        np.mean([s if v is None else min(v, s) for v, s in zip(row, cell["start"], strict=True)])
        for row in cell["losses"]
    ]
    return float(cell["log10_rates"][int(np.argmin(table))])


def _overfits(levels: list[tuple[float, float]]) -> bool:
    """From pairs of training loss and held-out loss, each over all its data."""
    if len(levels) < 5:
        return False
    # The mean of two neighbours, so that one lucky moment is no proof.
    pairs = np.array(levels)
    level = (pairs[1:] + pairs[:-1]) / 2
    turn = int(np.argmin(level[:, 1]))
    risen = level[-1, 1] - level[turn, 1] > 0.1 * max(level[0, 1] - level[turn, 1], 1e-12)
    return bool(risen and level[-1, 0] < level[turn, 0])


def label(task: Task, runs: dict[float, Runner], shift: float, losses: dict[float, float]) -> str:
    """What the truth says of the run at this shift from the best rate; empty between labels."""
    run, loss = runs[shift], losses[shift]
    finite = [v for v in losses.values() if math.isfinite(v)]
    best, start = min(finite), run.start
    if not math.isfinite(loss) or loss > start:
        return "diverging"
    regret = (loss - best) / (start - best)
    if regret > 0.1:
        return "too_high" if shift > min(losses, key=lambda s: _or_inf(losses[s])) else "too_low"
    if _overfits(run.levels):
        return "overfitting"
    if regret > 0.05:
        return ""
    gained = start - loss
    if (loss - _continued(run, 1.0)) / gained > GAIN:
        return "healthy"
    if (loss - _continued(run, 0.1)) / gained > GAIN:
        return "plateau"
    name = task.name.removesuffix("-scarce")
    if name in LARGER and (loss - _larger(name)) / gained > 0.1:
        return "underfitting"
    return "converged"


def _or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _continued(run: Runner, factor: float) -> float:
    """The loss after as many steps again at `factor` times the rate."""
    copy = pickle.loads(pickle.dumps((run.params, run.optimizer.state_dict())))
    on = Runner.__new__(Runner)
    on.__dict__ |= run.__dict__
    on.params = copy[0]
    on.optimizer = run.optimizer.clone(on.params)
    on.optimizer.lr = run.optimizer.lr * factor
    on.batches = run.task.batches(1)
    on.history = {k: [] for k in run.history}
    on.levels = []
    return _or_inf(on.train(run.task.steps))


@cache
def _larger(name: str) -> float:
    """The loss a larger model reaches with Adam, at the best of three rates."""
    task = next(t for t in tasks() if t.name == name)
    init, value_and_grad = LARGER[name]
    bigger = replace(task, init=init, value_and_grad=value_and_grad)
    scale = 30.0 if name == "diabetes-raw-target" else 1.0
    return min(
        _or_inf(Runner(bigger, "adam", scale * rate).train(3 * task.steps))
        for rate in (1e-3, 3e-3, 1e-2)
    )


def judge(job: tuple[str, str, float]) -> list[dict[str, Any]]:
    """Rows of label, verdict and whether a suggested rate was better, for one task and rule."""
    name, rule, exponent = job
    task = next(t for t in subjects() if t.name == name)
    runs = {s: Runner(task, rule, 10 ** (exponent + s)) for s in SHIFTS}
    losses = {s: run.train(task.steps) for s, run in runs.items()}
    rows = []
    for shift, run in runs.items():
        named = label(task, runs, shift, losses)
        if not named:
            continue
        said = ss.diagnose({k: np.array(v) for k, v in run.history.items()})
        better = None
        if named in ("too_low", "too_high") and said.suggested_lr is not None:
            with_it = _or_inf(Runner(task, rule, said.suggested_lr).train(task.steps))
            better = bool(with_it < losses[shift])
        rows.append(
            {
                "task": name,
                "rule": rule,
                "shift": shift,
                "tuned": task.tuned,
                "label": named,
                "verdict": said.verdict,
                "better": better,
                "history": run.history,
            }
        )
    return rows


def report(rows: list[dict[str, Any]], title: str) -> None:
    counts = Counter((r["label"], r["verdict"]) for r in rows)
    out = [f"\n{title}: rows are labels, columns verdicts", " " * 13]
    out[-1] += "".join(f"{v[:9]:>10s}" for v in VERDICTS) + "   right"
    right_of = {}
    for named in VERDICTS:
        row = [counts[named, v] for v in VERDICTS]
        right_of[named] = counts[named, named] / max(sum(row), 1)
        out.append(f"{named:13s}" + "".join(f"{n:10d}" for n in row) + f"   {right_of[named]:.2f}")
    right = np.mean([r["label"] == r["verdict"] for r in rows])
    apart = [r for r in rows if {r["label"], r["verdict"]} != {"converged", "underfitting"}]
    out.append(f"right: {right:.3f}; leaving converged / underfitting aside: ")
    out[-1] += f"{np.mean([r['label'] == r['verdict'] for r in apart]):.3f}"
    fixed = [r["better"] for r in rows if r["label"] in ("too_low", "too_high")]
    told = [b for b in fixed if b is not None]
    out.append(
        f"of {len(fixed)} runs at a wrong rate {len(told)} were given another, "
        f"better in {np.mean(told):.3f}"
    )
    sys.stdout.write("\n".join(out) + "\n")


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--save", type=Path, help="keep the histories in this file")
    chosen = parser.parse_args()
    truth = {(r["task"], r["rule"]): r for r in json.loads(STORE.read_text())}
    jobs = [(t.name, rule, _best(t, rule, truth)) for t in subjects() for rule in RULES]
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        rows = [row for some in pool.map(judge, jobs, chunksize=2) for row in some]
    if chosen.save:
        chosen.save.write_bytes(pickle.dumps(rows))
    for title, tuned in (("tuned on", True), ("report only", False)):
        report([r for r in rows if r["tuned"] is tuned], title)


if __name__ == "__main__":
    main()
