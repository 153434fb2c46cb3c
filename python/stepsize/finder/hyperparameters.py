"""The numbers beside the rate: momentum and weight decay by races, batch size by gradient noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stepsize.arrays import Nest, copy, flatten
from stepsize.finder.results import LRFindResult, ParameterResult
from stepsize.finder.trials import Bench, Change, Trial
from stepsize.noise_scale import gradient_noise_scale

PARAMETERS = ("momentum", "weight_decay", "batch_size")
MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
# How often a weight is shrunk by itself in one training: Wang & Aitchison 2024 find about one best.
SHRINKS = (0.01, 0.1, 0.3, 1.0, 3.0)
FEWEST = 6  # gradients whose scatter says something


@dataclass(frozen=True)
class _Entry:
    """A value in the race: its trial, and the rate it runs at."""

    value: float
    trial: Trial
    lr: float


def _momentum_of(optimizer: Any) -> float | None:
    value = getattr(optimizer, "momentum", None)
    if value is None and hasattr(optimizer, "betas"):
        value = optimizer.betas[0]
    return float(value) if isinstance(value, int | float) else None


def _changed(optimizer: Any, params: Nest, name: str, value: float) -> Any:
    """The optimizer with another momentum or decay; made anew where its state does not allow it."""
    new: Any = value
    if name == "momentum" and not hasattr(optimizer, "momentum"):
        name, new = "betas", (value, *optimizer.betas[1:])
    if name == "momentum" and value and not optimizer.momentum:
        if isinstance(optimizer.lr, tuple):
            raise ValueError("lr_find: parameter='momentum' needs a momentum above 0 with groups")
        return type(optimizer)(params, **{**optimizer.hyperparams, name: new})
    setattr(optimizer, name, new)
    return optimizer


def _reach(bench: Bench, change: Change, value: float, lr: float) -> float:
    """How long a step gets at last when the same gradient is shown again and again."""
    params = copy(bench.params)
    stepper = bench.stepper(params, change)
    loss, gradient = bench.first(0)
    moved = 0.0
    for _ in range(math.ceil(3 / (1 - value))):
        moved = stepper.measured(gradient, lr / 30, loss)  # so that the weights hardly change
    return moved


def _momenta(bench: Bench, lr: float, length: int, first_batch: int) -> list[_Entry]:
    """Momenta that a race of `length` steps can judge, each at two rates.

    Where noise is the limit, equally long steps are as good: the rate shrinks as they add up. Where
    curvature is, the same rate stays stable, and that is what momentum is for.
    """
    present = _momentum_of(bench.build(copy(bench.params)))
    if present is None:
        raise ValueError("lr_find: parameter='momentum' needs an optimizer with momentum or betas")
    values = sorted({*(m for m in MOMENTA if 2 / (1 - m) <= length), present})
    values.sort(key=lambda value: value != present)
    entries, own = [], 0.0
    for value in values:
        change = partial(_changed, name="momentum", value=value)
        reach = _reach(bench, change, value, lr)
        own = own or reach
        shorter = own / reach if reach > 0 and 0 < own < math.inf else 1.0
        rates = [lr] if 0.75 < shorter < 1.33 else [lr * shorter, lr]
        entries += [_Entry(value, bench.trial(first_batch, change=change), r) for r in rates]
    return entries


def _decays(bench: Bench, lr: float, length: int, first_batch: int) -> list[_Entry]:
    """Weight decays from none to one that shrinks weights several times over in the training."""
    built = bench.build(copy(bench.params))
    present = getattr(built, "weight_decay", None)
    if not isinstance(present, int | float):
        raise ValueError("lr_find: parameter='weight_decay' needs an optimizer that has it")
    values = [float(present), 0.0, *(s / (lr * length) for s in SHRINKS)]
    return [
        _Entry(
            v, bench.trial(first_batch, change=partial(_changed, name="weight_decay", value=v)), lr
        )
        for v in dict.fromkeys(values)
    ]


def _halve(bench: Bench, entries: Sequence[_Entry]) -> tuple[list[_Entry], int]:
    """Race on the same batches, the better half for twice as long; what is left, best first.

    The first entry, the present value, stays in to the end. Also returns the first rung's length.
    """
    live = list(entries)
    rounds = max(1, math.ceil(math.log2(len(live))))
    first = 0
    while True:
        depth = len(live[0].trial.losses) + bench.left // (len(live) * rounds)
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
    """How far the loss of one lies above that of the other on the same batches, in its errors."""
    size = min(len(best.losses), len(other.losses))
    late = slice(size // 2, size)
    lead = np.asarray(other.losses[late]) - np.asarray(best.losses[late])
    if len(lead) < 2:
        return 0.0
    error = float(lead.std(ddof=1)) / math.sqrt(len(lead))
    return float(lead.mean()) / (error + 1e-12 * abs(best.losses[-1]) + 1e-300)


def _expected(best: Trial, other: Trial) -> float:
    """The loss of the best at its end, and how far another lay above it when left behind."""
    size = min(len(best.losses), len(other.losses))
    late = slice(size // 2, size)
    return best.score() + float(np.mean(other.losses[late]) - np.mean(best.losses[late]))


def _raced(
    bench: Bench, name: str, entries: list[_Entry], call: Callable[[Any, float], str]
) -> ParameterResult:
    present = entries[0]
    live, first = _halve(bench, entries)
    ran = [e for e in entries if len(e.trial.losses) >= first]
    came_to = [(e.value, _expected(live[0].trial, e.trial)) for e in ran] if live else []
    values = np.array(sorted({value for value, _ in came_to}))
    losses = np.array([min(loss for v, loss in came_to if v == value) for value in values])
    nothing = ParameterResult(
        name, math.nan, (math.nan, math.nan), "none", "every value tried lost the loss",
        values, losses, present.lr, bench.spent, "",
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
        why += "" if alive else ", in which that was left behind"
    params = copy(bench.params)
    built = _changed(bench.build(params), params, name, best.value)
    bounds = [*alike, best.value]
    return ParameterResult(
        name, best.value, (min(bounds), max(bounds)), confidence, why,
        values, losses, best.lr, bench.spent, call(built, best.lr),
    )  # fmt: skip


def _rows(batch: Any) -> int:
    for leaf in flatten(batch)[0] if batch is not None else []:
        if getattr(leaf, "ndim", 0):
            return len(leaf)
    raise ValueError(
        "lr_find: parameter='batch_size' needs batches of arrays, whose rows are samples"
    )


def _batch_size(bench: Bench, lr: float, call: str, first_batch: int) -> ParameterResult:
    """The batch size at which noise and signal are equal, half way through the budget."""
    size = _rows(bench.batches[first_batch])
    half = bench.left // 2
    trial = bench.trial(first_batch).extend(lr, half)
    empty = np.empty(0)

    def told(
        value: float, interval: tuple[float, float], confidence: str, why: str
    ) -> ParameterResult:
        line = f"batch_size = {value:.0f}    # {call}" if math.isfinite(value) else ""
        return ParameterResult(
            "batch_size", value, interval, confidence, why, empty, empty, lr, bench.spent, line
        )

    if trial.failure is not None:
        return told(math.nan, (math.nan, math.nan), "none", trial.failure)
    numbers = range(first_batch + half, first_batch + half + bench.left)
    seen = {id(bench.batches[n]) for n in numbers}
    if len(seen) < FEWEST:
        few = f"there are only {len(seen)} different batches; {FEWEST} tell noise from signal"
        return told(math.nan, (math.nan, math.nan), "none", few)
    scale = gradient_noise_scale(_gradients(bench, trial, numbers), size)
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


def _gradients(bench: Bench, trial: Trial, numbers: range) -> Any:
    for number in numbers:
        yield bench.evaluate(trial.params, number, fresh=False)[1]


def find_parameter(
    bench: Bench,
    name: str,
    found: LRFindResult,
    length: int,
    first_batch: int,
    call: Callable[[Any, float], str],
) -> ParameterResult:
    """Spend what is left of the bench's budget on one number, at the rate that was found."""
    lr = found.suggestion
    if not found.usable:
        none = math.nan, (math.nan, math.nan), "none", f"no rate works: {found.why}"
        return ParameterResult(name, *none, np.empty(0), np.empty(0), lr, bench.spent, "")
    if name == "batch_size":
        return _batch_size(bench, lr, call(bench.build(copy(bench.params)), lr), first_batch)
    if name == "momentum":
        entries = _momenta(bench, lr, bench.left // 4, first_batch)
    else:
        entries = _decays(bench, lr, length, first_batch)
    return _raced(bench, name, entries, call)
