"""Make the runs of the fifth split, each labelled by what would have happened otherwise.

    python bench/advice/counterfactual.py --runs FILE [--tasks NAMES] [--seed N]

Each task is trained at twelve rates for its own length and three times that: as it is, with rows so
few that it overfits, and with a model too small; and, for four times its length, at six rates
near the best. At most one run of each label is kept of each of these. Where the label hangs on the
rate, two more seeds must confirm it; where it hangs on the future, the run goes on at a hundredth
to ten times its rate for as many steps again, over three other orders of the batches. `what_if`
looks at it afterwards and has no say in the label.

The labels (`width`: first loss minus the lowest level seen; a good rate: within 5 % regret):

    diverging      not finite, or the end above the start by a tenth of the width;
    too_high       a regret of 0.1, at over thrice the rates within 5 %;
    too_low        a regret of 0.5, at less than a tenth of the rates within 20 %;
    overfitting    the validation loss was best before 60 % and rose by a tenth of its range since,
                   a test set agrees, and the training loss went on falling;
    converged      third and last quarter alike (0.5 %), no branch from x0.01 to x10 gains 0.5 %;
    underfitting   the same, and a larger model on the same data ends at 0.75 of both losses;
    healthy        a good rate; the last half gained 2 % (or 10 % of the loss) beyond three errors,
                   as many steps again gain 1 % (or 10 %), a tenth of the rate not 1 % more;
    plateau        a good rate; the quarters alike, as many steps again gain nothing, but at a tenth
                   of the rate 2 % (or 15 % of the loss), beyond four errors and thrice the drift.

A label counts where the mean over the orders gives it and at least two of the three do alone.
"""

from __future__ import annotations

import argparse
import math
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from families import make
from models import Batch
from tasks.counterfactual import Subject, subjects

import stepsize as ss

SEEDS = 3  # of a training, and orders of the batches of one that goes on
VARIANTS = ("usual", "scarce", "narrow")
BATCHES = (2, 4, 8, 16, 32)  # drawn alike for all labels
LENGTHS = (1, 3)  # of a run, in lengths of the task
LONGER = (4,)  # of one near the best rate
FINE = (-0.4, -0.2, 0.0, 0.2, 0.35, 0.5)  # decades from the best rate
# Decimal logarithms of the rates: twelve, five to two decades.
LOWEST = {
    "sgd": -3.2,
    "momentum": -4.0,
    "adam": -4.3,
    "rmsprop": -4.6,
    "adagrad": -3.2,
    "lion": -5.2,
}
RATES, APART = 12, 0.4
STATS = ("grad_norm", "update_norm", "param_norm", "update_ratio")
SERIES = ("loss", "lr", "val_loss", *STATS)
LOOKS = 12  # validations in the length of a task
AHEAD = (1.0, 0.1, 0.01, 0.3, 3.0, 10.0)  # factors of the rate for as many steps again
FALLS = 0.02  # widths by which the training loss of a run that overfits has gone on falling
ROWS = 200  # rows to validate and to test on, each


def parts(subject: Subject, variant: str) -> tuple[Batch, Batch, Batch]:
    """Rows to train on, to validate and to test on."""
    order = np.random.default_rng(11).permutation(len(subject.data[0]))
    held, test, rest = order[:ROWS], order[ROWS : 2 * ROWS], order[2 * ROWS :]
    if len(order) < 3 * ROWS:
        held, test, rest = np.array_split(order, 3)
    rest = rest[: subject.scarce] if variant == "scarce" else rest
    return tuple(tuple(a[rows] for a in subject.data) for rows in (rest, held, test))  # type: ignore[return-value]


class Run:
    """A training that can go on from where it is, also at another rate."""

    def __init__(self, subject: Subject, width: int, variant: str, size: int, seed: int) -> None:
        init, self.value_and_grad = subject.make(width)
        self.data, self.held, self.test = parts(subject, variant)
        self.size = min(size, len(self.data[0]))
        self.params = init(np.random.default_rng(900 + seed))
        self.look = max(1, subject.steps // LOOKS)
        self.rule, self.seed = subject.rule, seed
        self.series: dict[str, list[float]] = {name: [] for name in SERIES}
        self.levels: list[tuple[int, float, float, float]] = []
        self.lost = False
        self.start = self.loss(self.params, self.data)

    def at(self, rate: float) -> Run:
        self.optimizer = make(self.rule)(self.params, lr=rate)
        self.batches = self._stream(self.seed)
        return self

    def _stream(self, seed: int) -> Iterator[Batch]:
        rng = np.random.default_rng(2000 + seed)
        rows = len(self.data[0])
        while True:
            order = rng.permutation(rows)
            for k in range(0, rows - self.size + 1, self.size):
                yield tuple(a[order[k : k + self.size]] for a in self.data)

    def loss(self, params: Any, data: Batch) -> float:
        with np.errstate(all="ignore"):
            return float(self.value_and_grad(params, data)[0])

    def train(self, steps: int, record: bool = True) -> float:
        """Train on; the mean of the loss over all training rows in the last twentieth."""
        ends, tail, mean = [], max(1, steps // 20), None
        for left in reversed(range(steps)):
            if self.lost:
                break
            self._step(record)
            if left < tail and not self.lost:
                mean = self._averaged(mean, tail - left)
                if left % max(1, tail // 4) == 0:
                    ends.append(self.loss(self.params, self.data))
        self.mean = mean
        level = float(np.mean(ends)) if ends else math.nan
        return math.inf if self.lost or not math.isfinite(level) else level

    def _averaged(self, mean: Any, count: int) -> Any:
        if mean is None:
            return {k: np.array(v, np.float64) for k, v in self.params.items()}
        return {k: m + (self.params[k] - m) / count for k, m in mean.items()}

    def _step(self, record: bool) -> None:
        row = dict.fromkeys(SERIES, math.nan)
        with np.errstate(all="ignore"):
            loss, grads = self.value_and_grad(self.params, next(self.batches))
            row |= {"loss": loss, "lr": self.optimizer.lr}
            try:
                stats = self.optimizer.step(grads, stats=record)
                row |= {name: getattr(stats, name) for name in STATS if record}
            except ss.NonFiniteGradientError:
                self.lost = True
        self.lost = self.lost or not math.isfinite(loss)
        made = len(self.series["loss"])
        if record and not self.lost and made % self.look == self.look - 1:
            row["val_loss"] = self.loss(self.params, self.held)
            seen = (self.loss(self.params, part) for part in (self.data, self.test))
            train, test = seen
            self.levels.append((made, train, row["val_loss"], test))
        for name, value in row.items():
            self.series[name].append(value)

    def copy(self, factor: float = 1.0, order: int = 0) -> Run:
        """The same run from here on, at another rate and over other batches."""
        on = Run.__new__(Run)
        on.__dict__ |= self.__dict__
        on.params = pickle.loads(pickle.dumps(self.params))
        on.optimizer = self.optimizer.clone(on.params)
        on.optimizer.lr = self.optimizer.lr * factor
        on.batches = on._stream(SEEDS + order)
        on.series, on.levels = {name: [] for name in SERIES}, []
        return on

    def history(self) -> dict[str, np.ndarray]:
        return {name: np.array(values) for name, values in self.series.items()}


def larger(subject: Subject, variant: str, size: int) -> tuple[float, float]:
    """The lowest training loss of a wider model at a few rates, and its validation loss."""
    width = subject.width * (1 if variant == "narrow" else 3)
    ends = []
    for k in range(3, RATES - 1, 2):
        run = Run(subject, width, variant, size, 0).at(10 ** (LOWEST[subject.rule] + k * APART))
        ends.append((run.train(max(LENGTHS) * subject.steps, record=False), run))
    level, best = min(ends, key=lambda pair: pair[0])
    return level, best.loss(best.params, best.held) if math.isfinite(level) else math.inf


def trained(
    subject: Subject, variant: str, size: int, rates: Any, lengths: Any, seed: int = 0
) -> list[list[dict[str, Any]]]:
    """Rows by length and rate."""
    width = subject.narrow if variant == "narrow" else subject.width
    table: list[list[dict[str, Any]]] = [[] for _ in lengths]
    for rate in rates:
        run, made = Run(subject, width, variant, size, seed).at(rate), 0
        for part, length in enumerate(lengths):
            level = run.train(length * subject.steps - made)
            made = length * subject.steps
            row = {"rate": rate, "loss": level, "start": run.start, "levels": list(run.levels)}
            row |= {"history": run.history(), "steps": made, "run": run.copy(), "mean": run.mean}
            table[part].append(row)
    return table


def regrets(rows: list[dict[str, Any]]) -> np.ndarray:
    """By rate; a run that diverged ends at its start."""
    ends = np.array([min(row["loss"], row["start"]) for row in rows])
    return (ends - ends.min()) / max(rows[0]["start"] - ends.min(), 1e-300)


def of_the_rate(row: dict[str, Any], regret: np.ndarray, rates: np.ndarray, at: int) -> str:
    """The labels that follow from the losses and the grid alone; "good", or "" between labels."""
    batch = row["history"]["loss"]
    if not math.isfinite(row["loss"]) or not np.isfinite(batch).all():
        return "diverging"
    if row["loss"] > row["start"]:
        return "diverging" if row["loss"] > row["start"] + 0.1 * width_of(row) else ""
    good, fair = rates[regret <= 0.05], rates[regret <= 0.2]
    if regret[at] >= 0.1 and rates[at] > 2.9 * good.max():
        return "too_high"
    if regret[at] >= 0.5 and rates[at] < fair.min() / 9:
        return "too_low"
    if overfits(row):
        return "overfitting" if regret[at] <= 0.2 else ""
    return "good" if regret[at] <= 0.05 else ""


def width_of(row: dict[str, Any]) -> float:
    lowest = min([level[1] for level in row["levels"]] + [row["loss"]])
    return max(row["start"] - lowest, 1e-300)


def overfits(row: dict[str, Any]) -> bool:
    levels = np.array(row["levels"])
    if len(levels) < 5:
        return False
    pairs = (levels[1:] + levels[:-1]) / 2
    turn, unseen = int(pairs[:, 2].argmin()), int(pairs[:, 3].argmin())
    risen = pairs[-1, 2] - pairs[turn, 2] > 0.1 * np.ptp(pairs[:, 2])
    agrees = pairs[-1, 3] - pairs[unseen, 3] > 0.05 * np.ptp(pairs[:, 3])
    falls = levels[turn, 1] - levels[-1, 1] > FALLS * width_of(row)
    return bool(pairs[turn, 0] < 0.6 * row["steps"] and risen and agrees and falls)


def ahead(row: dict[str, Any], order: int) -> dict[float, float]:
    """What as many steps again gain at each factor, in widths, over one order of the batches.

    The factors that only a run at rest is asked for are left out where it is not at rest.
    """
    width, found = width_of(row), {}
    for factor in AHEAD:
        if factor not in (1.0, 0.1) and max(found.values()) >= 0.005:
            break
        end = row["run"].copy(factor, order).train(row["steps"], False)
        found[factor] = (row["loss"] - end) / width
    return found


def of_the_future(row: dict[str, Any], gains: dict[int, dict[float, float]], bigger: Any) -> str:
    """The label of a run at a good rate, "" between labels."""
    width = width_of(row)
    blocks = np.array([level[1] for level in row["levels"]])
    middle = len(blocks) // 2
    late = blocks[middle:]
    third, last = np.array_split(late, 2)
    error = float(np.std(np.diff(late))) / math.sqrt(len(late)) / width
    drift = abs(third.mean() - last.mean()) / width
    left = row["loss"] / width if row["loss"] > 0 else math.inf
    same, tenth = (float(np.mean([gains[k][f] for k in gains])) for f in (1.0, 0.1))
    tenths = [gains[k][0.1] for k in gains]
    spread = float(np.std(tenths, ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0
    gained = (blocks[middle] - last.mean()) / width
    most = np.mean([max(some.values()) for some in gains.values()])
    asked = all(len(some) == len(AHEAD) for some in gains.values())
    if drift < 0.005 + 2 * error and asked and most < 0.005:
        here = (row["loss"], row["levels"][-1][2])
        smaller = all(b <= 0.75 * h for b, h in zip(bigger(), here, strict=True))
        return "underfitting" if smaller else "converged"
    clear = gained > max(min(0.02, 0.1 * left), 3 * error)
    if clear and same >= min(0.01, 0.1 * left):
        return "healthy" if tenth - same < 0.01 else ""
    rests = same < 0.005 and drift < 0.01 + 2 * error
    enough = max(min(0.02, 0.15 * left), 4 * spread, 3 * drift)
    return "plateau" if rests and tenth >= enough else ""


def agreed(row: dict[str, Any], bigger: Any) -> str:
    """The label of the mean over the orders, where at least two of the three give it alone."""
    gains = {0: ahead(row, 0)}
    row["gains"] = gains
    if not of_the_future(row, gains, bigger):
        return ""
    gains |= {order: ahead(row, order) for order in range(1, SEEDS)}
    label = of_the_future(row, gains, bigger)
    alone = [of_the_future(row, {k: some}, bigger) for k, some in gains.items()]
    return label if alone.count(label) >= 2 else ""


def look(row: dict[str, Any]) -> dict[str, Any]:
    """What `what_if` says of the run, and the losses at the mean of its last twentieth."""
    run = row["run"]
    value = run.loss
    found = ss.what_if(
        run.value_and_grad,
        run.params,
        run.optimizer,
        run.data,
        batch_size=run.size,
        history=row["history"],
        loss=value,
        progress=False,
    )
    mean = {k: v.astype(run.params[k].dtype) for k, v in row["mean"].items()}
    at = {
        name: [value(params, part) for part in (run.data, run.held)]
        for name, params in (("mean", mean), ("end", run.params))
    }
    return {"what_if": found, "averaged": at}


def off_the_rate(
    subject: Subject, variant: str, size: int, table: Any, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """At most one run of each label that losses and grid give alone, confirmed by two seeds."""
    for rows, length in zip(table, LENGTHS, strict=True):
        rates, regret, seen = np.array([row["rate"] for row in rows]), regrets(rows), set()
        for at in rng.permutation(RATES):
            label = of_the_rate(rows[at], regret, rates, at)
            if label in ("", "good", *seen):
                continue
            votes = 1
            for seed in range(1, SEEDS):
                again = trained(subject, variant, size, [rates[at]], [length], seed)[0][0]
                others = [*rows[:at], again, *rows[at + 1 :]]
                votes += of_the_rate(again, regrets(others), rates, at) == label
            if votes >= 2:
                seen.add(label)
                yield rows[at] | {"label": label, "regret": float(regret[at])}


def near_the_rate(
    subject: Subject, variant: str, size: int, best: float, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """At most one run of each label that only the future of a good rate tells."""
    wide: list[tuple[float, float]] = []

    def bigger() -> tuple[float, float]:
        if not wide:
            wide.append(larger(subject, variant, size))
        return wide[0]

    rates = best * 10 ** np.array(FINE)
    for rows in trained(subject, variant, size, rates, LONGER):
        regret, seen = regrets(rows), set()
        for at in rng.permutation(len(FINE)):
            if of_the_rate(rows[at], regret, rates, at) != "good":
                continue
            label = agreed(rows[at], bigger)
            if label and label not in seen:
                seen.add(label)
                yield rows[at] | {"label": label, "regret": float(regret[at])}


def labelled(subject: Subject, variant: str, size: int, seed: int) -> list[dict[str, Any]]:
    """Runs of one variant of a task, each with its label and with what `what_if` says of it."""
    rng, low = np.random.default_rng(seed), LOWEST[subject.rule]
    rates = [10 ** (low + APART * k) for k in range(RATES)]
    table = trained(subject, variant, size, rates, LENGTHS)
    found = list(off_the_rate(subject, variant, size, table, rng))
    if variant != "scarce":
        best = table[-1][int(regrets(table[-1]).argmin())]["rate"]
        found += near_the_rate(subject, variant, size, best, rng)
    keep = ("rate", "loss", "start", "levels", "history", "steps", "label", "regret")
    of = {"task": subject.name, "variant": variant, "size": size, "rule": subject.rule}
    kept = []
    for row in found:
        told = {} if row["label"] == "diverging" else look(row)
        kept.append({name: row[name] for name in keep} | of | told | {"gains": row.get("gains")})
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=None, help="names; all when left out")
    parser.add_argument("--seed", type=int, default=0, help="draws other batch sizes and runs")
    parser.add_argument(
        "--every", type=int, nargs=2, default=(0, 1), help="first, and each so many"
    )
    chosen = parser.parse_args()
    with chosen.runs.open("ab") as file:
        known = list(enumerate(subjects()))
        for number, subject in known[chosen.every[0] :: chosen.every[1]]:
            if chosen.tasks is not None and subject.name not in chosen.tasks:
                continue
            rng = np.random.default_rng((chosen.seed, number))
            for variant in VARIANTS:
                began, size = time.perf_counter(), int(rng.choice(BATCHES))
                rows = labelled(subject, variant, size, chosen.seed)
                pickle.dump(rows, file)
                file.flush()
                took = time.perf_counter() - began
                labels = " ".join(row["label"] for row in rows)
                sys.stdout.write(f"{subject.name} {variant} {size} {took:.0f} s: {labels}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
