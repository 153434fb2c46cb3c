"""Plights, each as what it changes of a task: the gradient, the data, the order, the optimizer."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from models import Batch, Params
from tasks.plights import Subject

import stepsize as ss

HELD = 1 / 4  # of the rows are validated on
DECAY, CLIP, SCALE, UNSCALED, PULL, CONSTANT = 1.0, 1e-3, 30.0, 1e4, 3.0, 1e3
DEAD = -30.0  # biases that no input reaches
UNDERFLOW = 3e-8  # half of the least number of float16, at which the median gradient is put

Function = Callable[[Params, Batch], tuple[float, Params]]


@dataclass(frozen=True)
class Planted:
    """A task with a plight in it; `train` is a tuple of arrays, or a list of batches as they come.

    `optimizer(params, rate)` makes one, `loss` is over all training rows, with the plight in it.
    """

    value_and_grad: Function
    init: Callable[[], Params]
    train: Any
    validation: Batch
    rule: str
    steps: int
    batch: int
    settings: dict[str, Any]
    schedule: Callable[[float], Any] | None = None

    def params(self) -> Params:
        return self.init()

    def optimizer(self, params: Params, rate: float | None) -> ss.Optimizer:
        cls = {"adam": ss.Adam, "rmsprop": ss.RMSprop}.get(self.rule, ss.SGD)
        own = {"momentum": 0.9} if self.rule == "momentum" else {}
        lr = rate if rate is None or self.schedule is None else self.schedule(rate)
        return cls(params, lr=lr, **own, **self.settings)

    def stream(self, seed: int) -> Iterator[Batch]:
        """Batches without end, in another order for each seed where they are shuffled."""
        rng = np.random.default_rng(4000 + seed)
        while True:
            if isinstance(self.train, list):
                yield from self.train
                continue
            order = rng.permutation(len(self.train[0]))
            for k in range(0, len(order) - self.batch + 1, self.batch):
                yield tuple(part[order[k : k + self.batch]] for part in self.train)

    def loss(self, params: Params) -> float:
        """The mean over batches of the training rows; rows that give none are left out."""
        batches = self.train
        if not isinstance(batches, list):
            rows = range(0, len(self.train[0]) - self.batch + 1, self.batch)
            batches = [tuple(part[k : k + self.batch] for part in self.train) for k in rows]
        losses = np.array([self.value_and_grad(params, batch)[0] for batch in batches])
        sound = losses[np.isfinite(losses)]
        return float(sound.mean()) if 2 * len(sound) > len(losses) else float("nan")


def plant(subject: Subject, plight: str, lr: float) -> Planted | None:
    """The task with a plight, "" for none; None where the task has no place for it."""
    rng = np.random.default_rng(zlib.crc32(f"{subject.name} {plight}".encode()))
    order = np.random.default_rng(7).permutation(len(subject.data[0]))
    cut = int(HELD * len(order))
    held, train = (tuple(a[rows] for a in subject.data) for rows in (order[:cut], order[cut:]))
    init, function = subject.model
    sound = Planted(
        value_and_grad=function,
        init=lambda: init(np.random.default_rng(3000)),
        train=train,
        validation=held,
        rule=subject.rule,
        steps=subject.steps,
        batch=subject.batch,
        settings={},
    )
    return PLIGHTS[plight](sound, subject, rng, lr) if plight else sound


Plight = Callable[[Planted, Subject, np.random.Generator, float], Planted | None]


def _weights(task: Planted) -> list[str]:
    return [name for name, leaf in task.params().items() if leaf.ndim == 2]


def _gradient(task: Planted, change: Callable[[Params], Params]) -> Planted:
    function = task.value_and_grad

    def wrong(params: Params, batch: Batch) -> tuple[float, Params]:
        loss, grads = function(params, batch)
        return loss, change(grads)

    return replace(task, value_and_grad=wrong)


def _of_one(factor: float) -> Plight:
    def planted(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
        leaf = str(rng.choice(_weights(task)))
        scale = np.float32(factor)
        return _gradient(task, lambda grads: grads | {leaf: scale * grads[leaf]})

    return planted


def stopped(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted | None:
    """The gradient is cut before the last layer."""
    *first, last = _weights(task)
    if not first:
        return None
    early = [name for name in task.params() if name[-1:] != last[-1:]]
    return _gradient(task, lambda grads: grads | {k: np.zeros_like(grads[k]) for k in early})


def frozen(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """A leaf is no parameter of the optimizer, and stays where it began."""
    leaf = str(rng.choice(_weights(task)))
    function, whole = task.value_and_grad, task.init
    kept = whole()[leaf]

    def without(params: Params) -> Params:
        return {name: value for name, value in params.items() if name != leaf}

    def partial(params: Params, batch: Batch) -> tuple[float, Params]:
        loss, grads = function(params | {leaf: kept}, batch)
        return loss, without(grads)

    return replace(task, value_and_grad=partial, init=lambda: without(whole()))


def idle(task: Planted, subject: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """A schedule whose length counts something else than updates: half of the run at 0."""
    half = task.steps // 2
    if len(subject.name) % 2:
        return replace(task, schedule=lambda rate: ss.schedules.linear(rate, 0, half - 1))
    return replace(
        task, schedule=lambda rate: ss.schedules.piecewise_constant([half - 1], [rate, 0.0])
    )


def dead(task: Planted, subject: Subject, rng: np.random.Generator, lr: float) -> Planted | None:
    """No unit of the first hidden layer is ever on."""
    if not subject.relu:
        return None
    whole = task.init

    def init() -> Params:
        params = whole()
        return params | {"b0": np.full_like(params["b0"], DEAD)}

    return replace(task, init=init)


def shuffled(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """Targets of other rows."""
    *inputs, target = task.train
    return replace(task, train=(*inputs, target[rng.permutation(len(target))]))


def elsewhere(task: Planted, subject: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """Rows to validate on that come from elsewhere."""
    *inputs, target = task.validation
    target = target[rng.permutation(len(target))]
    moved = [2 * part + 1 if part.dtype.kind == "f" else part for part in inputs]
    return replace(task, validation=(*moved, target))


def underflow(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """Gradients that went through float16, where most of them were too small."""
    first = task.value_and_grad(task.params(), next(task.stream(0)))[1]
    sizes = np.abs(np.concatenate([leaf.ravel() for leaf in first.values()]))
    scale = UNDERFLOW / float(np.median(sizes[sizes > 0]))

    def narrow(grads: Params) -> Params:
        return {k: (np.float16(g * scale) / np.float64(scale)).astype(g.dtype)
                for k, g in grads.items()}  # fmt: skip

    return _gradient(task, narrow)


def _inputs(task: Planted, change: Callable[[np.ndarray], np.ndarray]) -> Planted | None:
    if task.train[0].dtype.kind != "f":
        return None
    train, held = ((change(part[0].copy()), *part[1:]) for part in (task.train, task.validation))
    return replace(task, train=train, validation=held)


def nan_row(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted | None:
    """One row of the training data lacks a feature."""
    if task.train[0].dtype.kind != "f":
        return None
    x = task.train[0].copy()
    x[rng.integers(len(x)), 0] = np.nan
    return replace(task, train=(x, *task.train[1:]))


def constant(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted | None:
    """A feature that is the same large number in each row."""

    def change(x: np.ndarray) -> np.ndarray:
        x[:, 0] = CONSTANT
        return x

    return _inputs(task, change) if task.train[0].shape[1:] > (1,) else None


def ordered(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """Batches in the order of the targets."""
    target = task.train[-1]
    order = np.argsort(target if target.ndim == 1 else target[:, 0], kind="stable")
    cuts = range(0, len(order) - task.batch + 1, task.batch)
    return replace(
        task, train=[tuple(a[order[k : k + task.batch]] for a in task.train) for k in cuts]
    )


def decayed(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """A weight decay far too large."""
    return replace(task, settings={"weight_decay": DECAY})


def clipped(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """Gradients clipped to a norm far below theirs."""
    grads = task.value_and_grad(task.params(), next(task.stream(0)))[1]
    norm = float(np.sqrt(sum(np.vdot(g, g) for g in grads.values())))
    return replace(task, settings={"clip_norm": CLIP * norm})


def unscaled(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted | None:
    """Inputs in a unit ten thousand times smaller."""
    return _inputs(task, lambda x: x * np.float32(UNSCALED))


def swamped(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """A penalty of the weights' squares in the loss that outweighs the data."""
    function = task.value_and_grad

    def penalised(params: Params, batch: Batch) -> tuple[float, Params]:
        loss, grads = function(params, batch)
        squares = sum(float(np.vdot(leaf, leaf)) for leaf in params.values())
        pulled = {k: g + np.float32(PULL) * params[k] for k, g in grads.items()}
        return loss + PULL / 2 * squares, pulled

    return replace(task, value_and_grad=penalised)


def summed(task: Planted, _: Subject, rng: np.random.Generator, lr: float) -> Planted:
    """A loss summed over the rows of a batch."""
    function = task.value_and_grad

    def total(params: Params, batch: Batch) -> tuple[float, Params]:
        rows = len(batch[0])
        loss, grads = function(params, batch)
        return rows * loss, {name: np.float32(rows) * g for name, g in grads.items()}

    return replace(task, value_and_grad=total)


PLIGHTS: dict[str, Plight] = {
    "sign of a gradient": _of_one(-1.0),
    "gradient of 0": _of_one(0.0),
    "scale of a gradient": _of_one(SCALE),
    "gradient stopped": stopped,
    "leaf frozen": frozen,
    "rate of 0": idle,
    "dead units": dead,
    "labels shuffled": shuffled,
    "validated elsewhere": elsewhere,
    "float16 underflow": underflow,
    "NaN in a row": nan_row,
    "constant feature": constant,
    "not shuffled": ordered,
    "weight decay": decayed,
    "clip_norm": clipped,
    "not scaled": unscaled,
    "penalty": swamped,
    "loss summed": summed,
}
