"""What a page of the guide is made of, and the few helpers its experiments share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import stepsize as ss
from stepsize.problems import Problem

__all__ = [
    "CONDITION",
    "FAILS",
    "HOLDS",
    "Claim",
    "Judgement",
    "Outcome",
    "Result",
    "best_rate",
    "column",
    "graded",
    "picked",
    "share",
    "spread",
    "sweep",
    "train",
    "verdict_by_wins",
]

Verdict = Literal["holds", "holds under a condition", "does not hold here"]
HOLDS: Verdict = "holds"
CONDITION: Verdict = "holds under a condition"
FAILS: Verdict = "does not hold here"


@dataclass(frozen=True)
class Judgement:
    """What the numbers say: a verdict, the criterion it follows from, and what was measured."""

    verdict: Verdict
    criterion: str
    measured: str
    figures: list[tuple[Any, str]]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Claim:
    """One page: a claim of the field, the experiment that tests it, and how it is judged.

    `experiment(seed, quick)` returns numbers by name; it is the code the page shows.
    `judge(results)` gets one such dict per seed and returns a `Judgement`. `needs` names modules
    beyond those of the extra `demo`.
    """

    name: str
    title: str
    text: str
    experiment: Callable[[int, bool], dict[str, Any]]
    judge: Callable[[list[dict[str, Any]]], Judgement]
    systems: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A page with what its experiment found."""

    claim: Claim
    finding: Judgement
    seeds: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a training run ended: its history, its parameters, and its scores."""

    history: Any
    params: Any
    train_loss: float
    loss: float
    accuracy: float


def train(problem: Problem, rule: Any, lr: Any, *, epochs: int, seed: int, **more: Any) -> Outcome:
    """Train a copy of the problem and score it on the rows it has not seen."""
    p = problem.fresh()
    history = ss.fit(
        p.value_and_grad,
        p.params,
        rule(p.params, lr=lr),
        p.train,
        epochs=epochs,
        seed=seed,
        progress=False,
        **more,
    )
    assert p.evaluate is not None
    train_loss = p.evaluate(p.params, p.train)["loss"]
    scores = p.evaluate(p.params, p.validation or p.train)
    accuracy = scores.get("accuracy", scores.get("r2", np.nan))
    return Outcome(history, p.params, train_loss, scores["loss"], accuracy)


def sweep(
    problem: Problem,
    rule: Any,
    rates: Any,
    *,
    epochs: int,
    seed: int,
    plan: Any = None,
    **more: Any,
) -> dict[str, list[float]]:
    """Train once per rate, or per schedule `plan(rate)`; the scores of each run in a row."""
    runs = []
    for rate in map(float, rates):
        lr = rate if plan is None else plan(rate)
        runs.append(train(problem, rule, lr, epochs=epochs, seed=seed, **more))
    return {
        "loss": [run.loss for run in runs],
        "train_loss": [run.train_loss for run in runs],
        "accuracy": [run.accuracy for run in runs],
    }


def picked(table: Any) -> tuple[int, Any]:
    """The rate that is best on average over the seeds, and each seed's loss at it.

    `table` is (seeds, rates). One rate for all seeds: choosing per seed would reward luck. A rate
    at which any seed was lost is not chosen.
    """
    means = np.asarray(table, float).mean(axis=0)
    best = int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
    return best, np.asarray(table, float)[:, best]


def column(results: list[dict[str, Any]], name: str) -> Any:
    """One number (or row of numbers) per seed, as an array with the seeds in front."""
    return np.array([result[name] for result in results], float)


def spread(values: Any, form: str = "{:.3g}") -> str:
    """Mean, lowest and highest over the seeds, in words; runs that were lost are counted."""
    row = np.atleast_1d(np.asarray(values, float))
    finite = row[np.isfinite(row)]
    if not len(finite):
        return "none finished"
    text = form.format(finite.mean())
    if len(finite) > 1:
        text += f" ({form.format(finite.min())} to {form.format(finite.max())})"
    lost = len(row) - len(finite)
    return f"{text}, {lost} lost" if lost else text


def share(won: Any) -> str:
    """How many of how many."""
    row = np.asarray(won, bool)
    return f"{int(row.sum())} of {row.size}"


def best_rate(rates: Any, losses: Any) -> float:
    """The rate with the lowest finite loss; NaN where every run was lost."""
    row = np.where(np.isfinite(losses), losses, np.inf)
    return float(np.asarray(rates)[np.argmin(row)]) if np.isfinite(row).any() else float("nan")


def graded(whole: Any, part: Any) -> Verdict:
    """Holds where all of the criterion is met, under a condition where a stated part is."""
    if whole:
        return HOLDS
    return CONDITION if part else FAILS


def verdict_by_wins(won: Any) -> Verdict:
    """Four seeds in five must agree; what only some seeds show does not hold."""
    return HOLDS if np.mean(np.asarray(won, float)) >= 0.8 else FAILS
