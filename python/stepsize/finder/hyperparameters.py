"""Hyperparameters besides the rate: momentum and weight decay by races, batch size by noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stepsize.arrays import Nest, copy, flatten, rows_of, unflatten
from stepsize.finder.pasting import pasted
from stepsize.finder.results import LRFindResult, ParameterResult
from stepsize.finder.trials import Change, Trial, TrialRunner
from stepsize.noise_scale import gradient_noise_scale
from stepsize.optimizers import RowGradient

PARAMETERS = ("momentum", "weight_decay", "batch_size")
MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
# Time constants of the decay (1 / (lr * decay) steps) in one training. Wang & Aitchison 2024,
# arXiv:2405.13698: the best time constant is between an epoch and the whole training.
SHRINKS = (0.01, 0.1, 0.3, 1.0, 3.0)
FEWEST = 6  # gradients to estimate a variance from


@dataclass(frozen=True)
class _Entry:
    """A value in the race: its trial, and the rate it runs at."""

    value: float
    trial: Trial
    lr: float


def _present(optimizer: Any, name: str) -> Any:
    """The value of a hyperparameter, one for all groups; None if there is none."""
    value = getattr(optimizer, name, None)
    if isinstance(getattr(optimizer, "lr", None), tuple) and isinstance(value, tuple):
        if len(set(value)) > 1:
            raise ValueError(
                f"lr_find: {name} is not the same in all groups, {value}; find it with one for all"
            )
        return value[0]
    return value


def _momentum_of(optimizer: Any) -> float | None:
    value = _present(optimizer, "momentum")
    if value is None and hasattr(optimizer, "betas"):
        value = _present(optimizer, "betas")[0]
    return float(value) if isinstance(value, int | float) else None


def _changed(optimizer: Any, params: Nest, name: str, value: float) -> Any:
    """The optimizer with another momentum or decay; made anew where its state does not allow it."""
    new: Any = value
    if name == "momentum" and not hasattr(optimizer, "momentum"):
        name, new = "betas", (value, *_present(optimizer, "betas")[1:])
    if name == "momentum" and value and not _present(optimizer, "momentum"):
        if isinstance(optimizer.lr, tuple):
            raise ValueError("lr_find: parameter='momentum' needs a momentum above 0 with groups")
        return type(optimizer)(params, **{**optimizer.hyperparams, name: new})
    setattr(optimizer, name, new)
    return optimizer


def _final_step_length(runner: TrialRunner, change: Change, value: float, lr: float) -> float:
    """The length of a step once momentum has settled, while one gradient is repeated."""
    params = copy(runner.params)
    stepper = runner.stepper(params, change)
    loss, gradient = runner.at_start(0)
    moved = 0.0
    for _ in range(math.ceil(3 / (1 - value))):
        moved = stepper.step_length(gradient, lr / 30, loss)  # so that the weights hardly change
    return moved


def _momenta(runner: TrialRunner, lr: float, length: int, first_batch: int) -> list[_Entry]:
    """Momenta that a race of `length` steps can judge, each at two rates.

    Where noise limits the rate, steps of equal length do as well: the rate is divided by what
    momentum accumulates. Where curvature does, the same rate stays stable, which momentum is for.
    """
    present = _momentum_of(runner.build(copy(runner.params)))
    if present is None:
        raise ValueError("lr_find: parameter='momentum' needs an optimizer with momentum or betas")
    values = sorted({*(m for m in MOMENTA if 2 / (1 - m) <= length), present})
    values.sort(key=lambda value: value != present)
    entries, own = [], 0.0
    for value in values:
        change = partial(_changed, name="momentum", value=value)
        reach = _final_step_length(runner, change, value, lr)
        own = own or reach
        shorter = own / reach if reach > 0 and 0 < own < math.inf else 1.0
        rates = [lr] if 0.75 < shorter < 1.33 else [lr * shorter, lr]
        entries += [_Entry(value, runner.trial(first_batch, change=change), r) for r in rates]
    return entries


def _decays(runner: TrialRunner, lr: float, length: int, first_batch: int) -> list[_Entry]:
    """Weight decays from none to one that shrinks weights several times over in the training."""
    built = runner.build(copy(runner.params))
    present = _present(built, "weight_decay")
    if not isinstance(present, int | float):
        raise ValueError("lr_find: parameter='weight_decay' needs an optimizer that has it")
    values = [float(present), 0.0, *(s / (lr * length) for s in SHRINKS)]
    return [
        _Entry(
            v, runner.trial(first_batch, change=partial(_changed, name="weight_decay", value=v)), lr
        )
        for v in dict.fromkeys(values)
    ]


def _halve(runner: TrialRunner, entries: Sequence[_Entry]) -> tuple[list[_Entry], int]:
    """Successive halving on the same batches; the survivors, best first.

    The first entry, the present value, survives to the end. Also returns the first rung's length.
    """
    live = list(entries)
    rounds = max(1, math.ceil(math.log2(len(live))))
    first = 0
    while True:
        depth = len(live[0].trial.losses) + runner.budget // (len(live) * rounds)
        for entry in live:
            entry.trial.extend(entry.lr, depth)
        first = first or depth
        live = [e for e in live if e.trial.failure is None]
        live.sort(key=lambda e: e.trial.score())
        rounds -= 1
        if rounds < 1 or len(live) <= 2:
            return live, first
        kept = live[: (len(live) + 1) // 2]
        if entries[0] in live and entries[0] not in kept:
            kept[-1] = entries[0]
        live = kept


def _behind(best: Trial, other: Trial) -> float:
    """How far the loss of one lies above the other's on the same batches, in standard errors."""
    size = min(len(best.losses), len(other.losses))
    late = slice(size // 2, size)
    lead = np.asarray(other.losses[late]) - np.asarray(best.losses[late])
    if len(lead) < 2:
        return 0.0
    error = float(lead.std(ddof=1)) / math.sqrt(len(lead))
    return float(lead.mean()) / (error + 1e-12 * abs(best.losses[-1]) + 1e-300)


def _expected(best: Trial, other: Trial) -> float:
    """The loss of the best at its end plus how far another lay above it when it was dropped."""
    size = min(len(best.losses), len(other.losses))
    late = slice(size // 2, size)
    return best.score() + float(np.mean(other.losses[late]) - np.mean(best.losses[late]))


def _raced(runner: TrialRunner, name: str, entries: list[_Entry]) -> ParameterResult:
    present = entries[0]
    live, first = _halve(runner, entries)
    ran = [e for e in entries if len(e.trial.losses) >= first]
    came_to = [(e.value, _expected(live[0].trial, e.trial)) for e in ran] if live else []
    values = np.array(sorted({value for value, _ in came_to}))
    losses = np.array([min(loss for v, loss in came_to if v == value) for value in values])
    nothing = ParameterResult(
        name, math.nan, (math.nan, math.nan), "none", "the loss diverged at every value tried",
        values, losses, present.lr, runner.spent, "",
    )  # fmt: skip
    if not live:
        return nothing
    best = live[0]
    length = len(best.trial.losses)
    alive = present in live
    gain = _behind(best.trial, present.trial) if alive else math.inf
    alike = [e.value for e in ran if e in live and _behind(best.trial, e.trial) < 2]
    if alive and gain < 2:
        confidence, best = "low", present
        why = f"no other value was better beyond the noise of {length} steps"
    else:
        confidence = "high" if gain > 6 else "medium"
        why = f"better than {present.value:.3g} in a race of {length} steps"
        why += "" if alive else ", in which that was dropped"
    params = copy(runner.params)
    built = _changed(runner.build(params), params, name, best.value)
    bounds = [*alike, best.value]
    return ParameterResult(
        name, best.value, (min(bounds), max(bounds)), confidence, why,
        values, losses, best.lr, runner.spent, pasted(built, best.lr),
    )  # fmt: skip


def _rows(batch: Any) -> int:
    rows, seen = rows_of(batch)
    arrays = [leaf for leaf in flatten(batch)[0] if getattr(leaf, "ndim", 0)]
    if not arrays:
        raise ValueError(
            "lr_find: parameter='batch_size' needs batches of arrays, whose rows are samples"
        )
    if seen is not None:
        raise ValueError(
            "lr_find: parameter='batch_size' needs batches whose arrays agree in their first axis, "
            f"the samples, got {', '.join(str(tuple(leaf.shape)) for leaf in arrays[:5])}"
        )
    return rows


def _batch_size(runner: TrialRunner, lr: float, call: str, first_batch: int) -> ParameterResult:
    """The batch size at which noise and signal are equal, half way through the budget."""
    size = _rows(runner.batches[first_batch])
    half = runner.budget // 2
    trial = runner.trial(first_batch).extend(lr, half)
    empty = np.empty(0)

    def told(
        value: float, interval: tuple[float, float], confidence: str, why: str
    ) -> ParameterResult:
        line = f"batch_size = {value:.0f}    # {call}" if math.isfinite(value) else ""
        return ParameterResult(
            "batch_size", value, interval, confidence, why, empty, empty, lr, runner.spent, line
        )

    if trial.failure is not None:
        return told(math.nan, (math.nan, math.nan), "none", trial.failure)
    every = range(first_batch + half, first_batch + half + runner.budget)
    # The noise of a smaller batch, the last of an epoch, is not that of the others.
    numbers = [n for n in every if _rows(runner.batches[n]) == size]
    seen = {runner.batches.where(n) for n in numbers}
    if len(seen) < FEWEST:
        found = f"{len(seen)} different batches of {size} rows"
        few = f"there are only {found}; {FEWEST} tell noise from signal"
        return told(math.nan, (math.nan, math.nan), "none", few)
    scale = gradient_noise_scale(_gradients(runner, trial, numbers), size)
    if not 0 < scale.critical_batch < math.inf:
        why = "the gradients of these batches have no direction in common"
        if scale.variance <= 0:
            why = "the gradients of these batches do not differ"
        return told(math.nan, (math.nan, math.nan), "none", f"{why}; give larger ones")
    width = scale.high / max(scale.low, 1e-300)
    confidence = "high" if width < 3 else "medium" if width < 10 else "low"
    why = f"noise and signal of the gradient are equal at {scale.critical_batch:.3g} samples"
    best = 2.0 ** max(0, round(math.log2(scale.critical_batch)))
    interval = max(1.0, min(scale.low, best)), max(scale.high, best)
    return told(best, interval, confidence, why)


def _gradients(runner: TrialRunner, trial: Trial, numbers: Sequence[int]) -> Any:
    leaves, paths, spec = flatten(runner.params)
    for number in numbers:
        gradient = runner.evaluate(trial.params, number, fresh=False)[1]
        whole = [
            g.whole("lr_find", path, leaf) if isinstance(g, RowGradient) else g
            for g, path, leaf in zip(spec.flatten_up_to(gradient), paths, leaves, strict=True)
        ]
        yield unflatten(spec, whole)


def find_parameter(
    runner: TrialRunner,
    name: str,
    found: LRFindResult,
    length: int,
    first_batch: int,
) -> ParameterResult:
    """Spend the runner's budget on one hyperparameter, at the rate that was found."""
    lr = found.suggestion
    if not found.usable:
        none = math.nan, (math.nan, math.nan), "none", f"no rate works: {found.why}"
        return ParameterResult(name, *none, np.empty(0), np.empty(0), lr, runner.spent, "")
    if name == "batch_size":
        return _batch_size(runner, lr, pasted(runner.build(copy(runner.params)), lr), first_batch)
    if name == "momentum":
        entries = _momenta(runner, lr, runner.budget // 4, first_batch)
    else:
        entries = _decays(runner, lr, length, first_batch)
    return _raced(runner, name, entries)
