"""Training runs labelled by the truth, not by their curves: what `diagnose` is scored on.

A run at a rate of the grid, of half or all of its task's steps, is labelled

    diverging     its loss over all the data ended above its start, or was not finite;
    overfitting   since it was best on held-out data, by a tenth of all it gained there, its loss
                  on the training data has fallen;
    too_low, too_high   its regret is above 0.1 and the best rate is higher, lower;
    healthy       it is near the best, and as many steps again at the same rate gain 4 %;
    plateau       they gain nothing, but at a tenth of the rate they gain 4 %;
    underfitting  neither gains anything, but a larger model does (see LARGER and NARROW);
    converged     nothing gains anything.

Runs between two labels are left out: a regret between 0.05 and 0.1, a gain between 2 % and 4 %.

All this is measured REPEATS times: whole trainings from other starts, continued ones over other
batches (their gains are averaged for the label). A label is `sure` if each repeat alone gives it
too; the others hang on the seed, and no look at the run can tell them.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import models
import numpy as np
from families import make
from tasks import Task, tasks

import stepsize as ss

SHIFTS = (-3, -2, -1.25, -0.75, -0.4, 0, 0.4, 0.8, 1.2, 2, 3)
REPEATS = 3
NOTHING, SOMETHING = 0.02, 0.04
STATS = ("grad_norm", "update_norm", "param_norm", "update_ratio")
SERIES = ("loss", "lr", "val_loss", *STATS)
SCARCE = ("digits-tanh", "cancer-mlp", "diabetes-mlp", "wine-mlp", "digits-linear", "text-1")
# Linear models that a hidden layer beats.
LARGER = {
    "digits-hinge": models.mlp([64, 48, 1], models.hinge_head, "relu", l2=1e-3),
    "diabetes-raw-target": models.mlp([10, 48, 1], models.square_head, "relu"),
    "poisson": models.mlp([10, 48, 1], models.poisson_head),
    "diabetes-unscaled": models.mlp([10, 48, 1], models.square_head, "relu"),
}
# Models too small for their task.
NARROW = {
    "digits-tanh": models.mlp([64, 1, 10], models.softmax_head),
    "digits-relu": models.mlp([64, 2, 10], models.softmax_head),
    "autoencoder": models.mlp([64, 2, 64], models.square_head),
    "factorisation": models.factorisation(40, 30, 1),
    "moons": models.mlp([2, 1], models.logistic_head),
    "friedman-raw-target": models.mlp([10, 1], models.square_head),
}


@cache
def subjects() -> tuple[Task, ...]:
    """The tasks, copies with so little data that they overfit, and with a model too small."""
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
    narrow = [
        replace(
            t,
            name=f"{t.name}-narrow",
            init=NARROW[t.name][0],
            value_and_grad=NARROW[t.name][1],
            steps=2 * t.steps,
        )
        for t in tasks()
        if t.name in NARROW
    ]
    return (*tasks(), *scarce, *narrow)


class Runner:
    """A training that can go on, with part of the data held out."""

    def __init__(self, task: Task, rule: str, rate: float, seed: int = 0) -> None:
        rows = np.arange(len(task.data[0]))
        held = (rows % 4 == 3) & (len(rows) > 40)
        self.held = tuple(a[held] for a in task.data) if held.any() else None
        kept = tuple(a[~held] for a in task.data)
        self.some = tuple(a[:: 1 + len(a) // 256] for a in kept)
        size = min(task.batch_size, len(kept[0]))
        self.task = replace(task, data=kept, batch_size=size)
        self.params = self.task.params(seed)
        self.start = self.task.loss(self.params)
        self.optimizer = make(rule)(self.params, lr=rate)
        self.batches = self.task.batches(seed)
        self.history: dict[str, list[float]] = {k: [] for k in SERIES}
        self.levels: list[tuple[int, float, float]] = []
        self.lost = False

    def train(self, steps: int) -> float:
        """Train on; the loss over the training data, a mean over the last steps, NaN when lost."""
        last = []
        for left in reversed(range(steps)):
            if self.lost:
                break
            self._step(len(self.history["loss"]) % max(1, self.task.steps // 20) == 0)
            if left % max(1, steps // 100) == 0 and left < steps // 20:
                last.append(self.task.loss(self.params))
        loss = float(np.mean(last)) if last else math.nan
        return math.nan if self.lost or not math.isfinite(loss) else loss

    def _step(self, validate: bool) -> None:
        row = dict.fromkeys(SERIES, math.nan)
        with np.errstate(all="ignore"):
            loss, grads = self.task.value_and_grad(self.params, next(self.batches))
            row |= {"loss": loss, "lr": self.optimizer.lr}
            try:
                stats = self.optimizer.step(grads, stats=True)
                row |= {name: getattr(stats, name) for name in STATS}
            except ss.NonFiniteGradientError:
                self.lost = True
            if self.held is not None and validate and not self.lost:
                row["val_loss"] = self.task.value_and_grad(self.params, self.held)[0]
                pair = self.task.value_and_grad(self.params, self.some)[0], row["val_loss"]
                self.levels.append((len(self.history["loss"]), *pair))
        self.lost = self.lost or not math.isfinite(loss)
        for name, value in row.items():
            self.history[name].append(value)

    def until(self, steps: int) -> dict[str, np.ndarray]:
        """The history of the first steps."""
        return {k: np.array(v[:steps]) for k, v in self.history.items()}

    def copy(self, factor: float = 1.0, order: int = 0) -> Runner:
        """The same run from here on, at another rate and over other batches."""
        on = Runner.__new__(Runner)
        on.__dict__ |= self.__dict__
        on.params = pickle.loads(pickle.dumps(self.params))
        on.optimizer = self.optimizer.clone(on.params)
        on.optimizer.lr = self.optimizer.lr * factor
        on.batches = self.task.batches(REPEATS + order)
        on.history = {k: [] for k in SERIES}
        on.levels, on.held = [], None
        return on


def _or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _overfits(levels: list[tuple[int, float, float]]) -> bool:
    """From the loss over some of the training data and that over all held-out data."""
    if len(levels) < 5:
        return False
    # The mean of two neighbours, so that one lucky moment is no proof.
    pairs = np.array(levels)[:, 1:]
    level = (pairs[1:] + pairs[:-1]) / 2
    turn = int(np.argmin(level[:, 1]))
    risen = level[-1, 1] - level[turn, 1] > 0.1 * max(level[0, 1] - level[turn, 1], 1e-12)
    return bool(risen and level[-1, 0] < level[turn, 0])


@cache
def _larger(name: str) -> float:
    """The loss a larger model reaches with Adam, at the best of three rates."""
    base = name.removesuffix("-narrow")
    task = next(t for t in tasks() if t.name == base)
    if base == name:
        init, value_and_grad = LARGER[name]
        task = replace(task, init=init, value_and_grad=value_and_grad)
    scale = 30.0 if name == "diabetes-raw-target" else 1.0
    rates = (1e-3, 3e-3, 1e-2, 3e-2)
    return min(_or_inf(Runner(task, "adam", scale * r).train(4 * task.steps)) for r in rates)


@dataclass(frozen=True)
class Trained:
    """A run after some of its steps, and where it can go on from."""

    start: float
    loss: float
    overfits: bool
    state: Runner
    history: dict[str, np.ndarray]


def _settled(name: str, run: Trained, gain: float, lower: float) -> str:
    """The label of a run near the best rate, from what going on at its rate or a tenth gains."""
    if gain > SOMETHING:
        return "healthy"
    if gain > NOTHING or NOTHING < lower <= SOMETHING:
        return ""
    if lower > SOMETHING:
        return "plateau"
    small = name in LARGER or name.endswith("-narrow")
    if small and (run.loss - _larger(name)) / (run.start - run.loss) > 0.1:
        return "underfitting"
    return "converged"


def _trained(task: Task, rule: str, exponent: float, seed: int) -> list[dict[float, Trained]]:
    """Runs at every shift of the rate, after half of the steps and after all."""
    out: list[dict[float, Trained]] = [{}, {}]
    for shift in SHIFTS:
        run = Runner(task, rule, 10 ** (exponent + shift), seed)
        for part, steps in enumerate((task.steps // 2, task.steps - task.steps // 2)):
            loss = run.train(steps)
            state, history = run.copy(), run.until(task.steps)
            out[part][shift] = Trained(run.start, loss, _overfits(run.levels), state, history)
    return out


def _regret(runs: dict[float, Trained], shift: float) -> float:
    run = runs[shift]
    best = min(r.loss for r in runs.values() if math.isfinite(r.loss))
    return (_or_inf(run.loss) - best) / (run.start - best)


def _label(
    name: str, runs: dict[float, Trained], shift: float, gains: tuple[float, float] | None
) -> str:
    """The label, empty between labels; the gains are those of a run with a small regret."""
    run = runs[shift]
    if not math.isfinite(run.loss) or run.loss > run.start:
        return "diverging"
    regret = _regret(runs, shift)
    if regret > 0.1:
        lower = shift > min(runs, key=lambda s: _or_inf(runs[s].loss))
        return "too_high" if lower else "too_low"
    if run.overfits:
        return "overfitting"
    if regret > 0.05 or gains is None:
        return ""
    return _settled(name, run, *gains)


def _gains(run: Trained, steps: int) -> list[tuple[float, float]]:
    """What as many steps again gain, at the same rate and at a tenth, over several orders."""
    whole = run.start - run.loss

    def gain(factor: float, order: int) -> float:
        return (run.loss - _or_inf(run.state.copy(factor, order).train(steps))) / whole

    return [(gain(1.0, order), gain(0.1, order)) for order in range(REPEATS)]


def labelled(task: Task, rule: str, exponent: float) -> list[dict[str, Any]]:
    """Rows of label and history, for runs around the best rate, of half and all of the steps."""
    seeds = [_trained(task, rule, exponent, seed) for seed in range(REPEATS)]
    rows = []
    for part, steps in enumerate((task.steps // 2, task.steps)):
        for shift, run in seeds[0][part].items():
            repeats = [seed[part] for seed in seeds]
            near = _label(task.name, repeats[0], shift, None) == ""
            gains = _gains(run, steps) if near and _regret(repeats[0], shift) <= 0.05 else None
            mean = tuple(np.mean(gains, axis=0)) if gains else None
            label = _label(task.name, repeats[0], shift, mean)
            again = {
                _label(task.name, repeat, shift, gains[k] if gains else None)
                for k, repeat in enumerate(repeats)
            }
            if label:
                rate = 10 ** (exponent + shift)
                row = {"task": task.name, "rule": rule, "split": task.split, "shift": shift}
                row |= {"steps": steps, "rate": rate, "label": label, "sure": again == {label}}
                row |= {"start": run.start, "loss": run.loss, "history": run.history}
                row["curve"] = [(10 ** (exponent + s), r.loss) for s, r in repeats[0].items()]
                rows.append(row)
    return rows
