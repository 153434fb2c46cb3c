"""Histories of runs that never were, drawn from a seed, which reach all that a diagnosis tells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.diagnosis.mismatch import factor_of, of_pairs, told

COUNT = 320
Curve = np.ndarray[Any, np.dtype[Any]]


class Drawn(dict[str, Curve]):
    """The series of a run, with what `fit` tells of it."""

    def __init__(self, series: dict[str, Curve], meta: dict[str, Any], stopped: str | None) -> None:
        super().__init__(series)
        self.meta, self.stopped = meta, stopped


@dataclass
class Branch:
    factor: float
    losses: Curve
    diverged: bool = False


@dataclass
class Experiment:
    """What `what_if` could have returned."""

    branches: tuple[Branch, ...]
    gains: dict[float, float]
    average_gain: tuple[float, float] | None
    memorised: float | None
    lr: float
    run_steps: int
    spread: float
    before: Curve = field(default_factory=lambda: np.full(16, 0.5))

    @property
    def steps(self) -> int:
        return len(self.branches[0].losses)

    def gain(self, factor: float) -> tuple[float, float]:
        gain = self.gains[factor]
        return gain, self.spread if math.isfinite(gain) else 0.0

    def advantage(self, factor: float) -> tuple[float, float]:
        gain, spread = self.gain(factor)
        return gain - self.gains[1.0], spread


def drawn(seed: int) -> tuple[Drawn, Experiment | None]:
    """A history, and the branches of an experiment after it for one of three."""
    random = np.random.default_rng(seed)
    rows = int(random.choice([1, 6, 12, 19, 20, 21, 40, 90, 200, 200, 400, 400, 700]))
    t = np.linspace(0, 1, rows)
    start = float(random.choice([1.0, 2.3, 40.0, 1e-3]))
    floor = float(random.choice([0.0, 0.02, 0.15, 0.5, 0.9, 1.0]))
    shape = random.choice(["decay", "decay", "decay", "line", "power", "rise", "hill", "steps"])
    pace = float(random.choice([0.3, 2.0, 8.0, 40.0]))
    curve = {
        "decay": np.exp(-pace * t),
        "line": 1 - t * min(pace, 3.0),
        "power": (1 + 10 * pace * t) ** -0.5,
        "rise": 1 + (np.exp(min(pace, 8.0) * t) - 1) * 0.2,
        "hill": np.exp(-pace * t) + pace * np.exp(-(((t - 0.15) / 0.05) ** 2)),
        "steps": 0.3 ** np.floor(3 * t),
    }[shape]
    noise = start * float(random.choice([0.0, 1e-5, 3e-3, 3e-3, 0.05, 0.3]))
    loss = start * (floor + (1 - floor) * curve) + noise * random.standard_normal(rows)
    if random.random() < 0.1:
        loss[int(random.integers(rows)) :] = math.nan if random.random() < 0.5 else math.inf
    if random.random() < 0.1:
        loss[int(random.integers(rows))] = math.nan
    if not np.isfinite(loss).any():
        loss[0] = start
    if random.random() < 0.1:
        loss = np.round(loss / start * 20) / 20  # an error rate of few samples
    series = {"loss": loss}
    every = int(random.choice([1, 1, 10]))
    if random.random() < 0.7:
        series["step"] = 1.0 + every * np.arange(rows)
    lr = 10.0 ** random.integers(-6, 2) * np.ones(rows)
    if random.random() < 0.8:
        series["lr"] = lr * random.choice([np.ones(rows), 1 - t, np.where(t < 0.3, 1.0, 0.0)])
    if random.random() < 0.8:
        ratio = 10.0 ** random.choice([-6, -4, -2.5, -2, -2, -1.5, -1, 0])
        series["update_ratio"] = ratio * np.exp(0.2 * random.standard_normal(rows))
    if random.random() < 0.6:
        fall = float(random.choice([0.0, 1.0, 4.0, 20.0, -2.0]))
        series["grad_norm"] = start * np.exp(-fall * t + 0.3 * random.standard_normal(rows))
    if {"update_ratio", "grad_norm"} <= set(series) and random.random() < 0.6:
        series["param_norm"] = np.full(rows, 10.0 ** random.integers(-3, 2))
    if random.random() < 0.6:
        _add_validation(random, series, t, start * (floor + (1 - floor) * curve))
    return (
        Drawn(series, *_told(random, series, every)),
        _branches(random, start, rows * every) if random.random() < 0.35 else None,
    )


def _add_validation(random: Any, series: dict[str, Curve], t: Curve, level: Curve) -> None:
    rows, scale = len(t), float(np.abs(level).max())
    turn, rise = random.choice([0.2, 0.4, 0.8, 2.0]), random.choice([0.02, 0.1, 0.6, 3.0])
    val = level + scale * rise * np.maximum(t - turn, 0)
    val = val * random.choice([1.0, 1.2, 30.0]) + 0.01 * scale * random.standard_normal(rows)
    if random.random() < 0.2:
        val = val[0] + rise * scale * t
    looks = int(random.choice([1, 2, 3, 4, 5, 8, 20, 60]))
    kept = np.unique(np.linspace(min(rows // looks, rows - 1), rows - 1, looks).astype(int))
    holes = np.full(rows, math.nan)
    holes[kept] = val[kept]
    if random.random() < 0.8:
        series["val_loss"] = holes
    if random.random() < 0.4:
        series["val_accuracy"] = 1 - np.clip(holes / (1.5 * scale), 0, 1)


def _told(random: Any, series: dict[str, Curve], every: int) -> tuple[dict[str, Any], str | None]:
    meta: dict[str, Any] = {}
    loss, rows = series["loss"], len(series["loss"])
    if random.random() < 0.3 and "step" in series and rows > 20:
        looks = np.unique(np.concatenate([np.arange(12), np.linspace(0, rows - 2, 30).astype(int)]))
        seen = (
            loss[looks + 1]
            - loss[looks]
            + 0.05 * random.standard_normal(len(looks)) * np.std(np.diff(loss))
        )
        factor = float(random.choice([1.0, 1.0, 1.0, 3.0, -1.0, 0.1]))
        products = factor * seen[:, None] * [1.1, 0.9]
        if np.isfinite(products).all():
            meta["slopes"] = np.column_stack([series["step"][looks], products]).tolist()
            meta["still"] = ([], ["b"], ["a/w", "a/b", "c", "d"])[random.integers(3)]
    if random.random() < 0.1:
        at = ("start", "end")[random.integers(2)]
        meta["checked"] = {"wrong": "w1, which is 2 times too large", "at": at}
    if random.random() < 0.1:
        meta["skipped"] = int(random.choice([0, rows // 2, rows]))
    if random.random() < 0.15:
        meta["rule"] = ("EMA", "SWA", "Adam")[random.integers(3)]
    stopped = None
    if random.random() < 0.15:
        step = int(every * rows * 0.6)
        name = ("val_loss", "val_accuracy")[random.integers(2)]
        stopped = f"{name} has not improved on 0.5 since step {step}"
    return meta, stopped


def _branches(random: Any, start: float, steps: int) -> Experiment:
    factors = ((0.1, 0.3, 1.0, 10.0), (0.3, 1.0, 3.0), (0.1, 1.0), (1.0, 3.0))[random.integers(4)]
    spread = start * float(random.choice([1e-4, 1e-2]))
    gains = {k: start * float(random.choice([-0.3, -0.01, 0, 0.01, 0.1, 0.5])) for k in factors}
    lost = float(random.choice([0.0, 1.0, factors[-1], factors[-1]]))
    branches = []
    for factor in factors:
        line = np.linspace(0, gains[factor], 20)
        losses = 0.6 * start - line + spread * random.standard_normal(20)
        branches.append(Branch(factor, losses, factor == lost))
        if factor == lost:
            gains[factor] = -math.inf
    average = start * float(random.choice([0.0, 0.05, 0.3])), spread
    return Experiment(
        tuple(branches),
        gains,
        average if random.random() < 0.7 else None,
        float(random.random()) if random.random() < 0.7 else None,
        0.1,
        steps,
        spread,
        np.full(16, 0.6 * start),
    )


def said(seed: int) -> str:
    """All that is said of a history, in lines."""
    history, experiment = drawn(seed)
    try:
        found = ss.diagnose(history, what_if=experiment)
    except ValueError as error:
        return f"{seed}: ValueError: {error}"
    shares = " ".join(f"{share:.5f}" for share in found.probabilities.values())
    rest = f"next rate {found.suggested_lr}, cost {found.experiment_cost}"
    lines = [f"{seed}: {found.verdict}, {shares}, {rest}"]
    lines += [
        f"    {one.kind} {one.severity} {one.span}: {one.evidence} | {one.advice}"
        for one in found.findings
    ]
    return "\n".join(lines)


def pairs(seed: int) -> str:
    """What `lr_find` would tell of the slopes at both ends of some steps of one batch."""
    random = np.random.default_rng(seed)
    count = int(random.choice([3, 8, 20]))
    sizes = 10.0 ** -np.sort(random.uniform(0, 4, count))
    slopes = np.column_stack([sizes, sizes * (1 - float(random.choice([0.0, 0.3, 0.5, 0.6])))])
    factor = float(random.choice([1.0, 1.1, 2.0, 0.5, 32.0, -1.0, 0.0]))
    noise = float(random.choice([0.0, 1e-4, 1e-2])) * random.standard_normal(count)
    seen = factor * slopes.mean(axis=1) + noise
    losses = np.full(count, float(random.choice([0.7, 3e2])))
    found = of_pairs(np.column_stack([-slopes, -seen, losses]))
    if found is None:
        return f"pairs {seed}: agree"
    return f"pairs {seed}: {told(found[0], 'one step')}; factor {factor_of(found[1], 32)}"


def snapshot() -> str:
    """Of all of them, as `tests/golden/diagnoses.txt` keeps it."""
    return "\n".join([*map(said, range(COUNT)), *map(pairs, range(COUNT))]) + "\n"
