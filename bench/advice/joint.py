"""Score `ss.tune` over rate, weight decay, batch and beta2 together, at equal cost.

    python bench/advice/joint.py [--trials 16] [--seeds 5]

AdamW on three quarters of the data of eight tasks, for as many examples whatever the batch; the
value of a run is the loss on the other quarter. The method "lr" starts at what `lr_find` says and
gets one run less for it. Regret is (value - best) / (start - best), the best being the lowest of
all searches of the task. Written to joint.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tasks import Task, tasks

import stepsize as ss

NAMES = (
    "digits-tanh",
    "digits-relu",
    "diabetes-mlp",
    "autoencoder",
    "poisson",
    "moons",
    "cancer-mlp",
    "survival",
)
SPACE = {
    "lr": ss.LogUniform(1e-6, 10.0),
    "weight_decay": ss.LogUniform(1e-5, 10.0),
    "batch": ss.Choice(16, 32, 64, 128),
    "beta2": ss.Choice(0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
}
EXAMPLES = 1600
BATCH = 32


def chosen_tasks() -> list[Task]:
    """Eight tasks that train fast."""
    return [task for task in tasks() if task.name in NAMES]


class Objective:
    """The loss on held rows after a training; runs at one point are made once."""

    def __init__(self, task: Task) -> None:
        rows = np.arange(len(task.data[0]))
        self.held = tuple(a[rows % 4 == 3] for a in task.data)
        self.kept = tuple(a[rows % 4 != 3] for a in task.data)
        self.task = task
        self.start = self._loss(task.params(0))

    def _loss(self, params: Any) -> float:
        with np.errstate(all="ignore"):
            return float(self.task.value_and_grad(params, self.held)[0])

    def batches(self, size: int, seed: int = 0) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        count = len(self.kept[0])
        while True:
            order = rng.permutation(count)
            for start in range(0, count - size + 1, size):
                yield tuple(a[order[start : start + size]] for a in self.kept)

    def __call__(self, point: dict[str, Any]) -> float:
        size = min(point["batch"], len(self.kept[0]))
        steps = EXAMPLES // size
        params = self.task.params(0)
        lr = ss.schedules.linear(point["lr"], 0.0, steps)
        opt = ss.AdamW(
            params, lr=lr, betas=(0.9, point["beta2"]), weight_decay=point["weight_decay"]
        )
        batches = self.batches(size)
        with np.errstate(all="ignore"):
            for _ in range(steps):
                loss, grads = self.task.value_and_grad(params, next(batches))
                if not np.isfinite(loss):
                    return float("inf")
                try:
                    opt.step(grads)
                except ss.NonFiniteGradientError:
                    return float("inf")
        value = self._loss(params)
        return value if value < self.start else float("inf")

    def prior(self, seed: int) -> ss.LRFindResult:
        return ss.lr_find(
            self.task.value_and_grad,
            self.task.params(0),
            lambda: self.batches(BATCH, seed),
            optimizer=ss.AdamW,
            progress=False,
        )


def searched(
    objective: Callable[..., float], method: str, trials: int, seed: int, prior: Any
) -> tuple[float, dict[str, Any]]:
    result = ss.tune(objective, SPACE, trials=trials, method=method, seed=seed, prior=prior)
    return result.best_value, dict(result.best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default="lr,tpe,random")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for task in chosen_tasks():
        objective = Objective(task)
        began = time.perf_counter()
        for seed in range(chosen.seeds):
            prior = objective.prior(seed)
            start = prior.suggestion if prior.usable else None
            for method in chosen.methods.split(","):
                own = method == "lr"
                value, point = searched(
                    objective, method, chosen.trials - own, seed, start if own else None
                )
                rows.append({"task": task.name, "seed": seed, "method": method, "value": value})
                rows[-1] |= {"start": objective.start, "point": point}
        sys.stdout.write(f"{task.name} {time.perf_counter() - began:.0f} s\n")
        finish(rows)


def finish(rows: list[dict[str, Any]]) -> None:
    """Regrets against the lowest of each task; printed and written."""
    for row in rows:
        best = min(r["value"] for r in rows if r["task"] == row["task"])
        value = min(row["value"], row["start"])
        row["regret"] = float(f"{(value - best) / (row['start'] - best):.4g}")
    for method in dict.fromkeys(row["method"] for row in rows):
        part = np.array([r["regret"] for r in rows if r["method"] == method])
        sys.stdout.write(
            f"{method:8s} median {np.median(part):.4f}  p90 {np.quantile(part, 0.9):.3f}  "
            f"mean {part.mean():.4f}\n"
        )
    sys.stdout.flush()
    Path(__file__).with_name("joint.json").write_text(
        "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
    )


if __name__ == "__main__":
    main()
