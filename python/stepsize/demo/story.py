"""The experiments of the demo; every number it shows comes from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import stepsize as ss
from stepsize import problems

__all__ = ["Settings", "Story", "TrainingRun", "tell"]

RULES: dict[str, Callable[..., Any]] = {
    "SGD": ss.SGD,
    "momentum": lambda params, lr=1e-3: ss.SGD(params, lr=lr, momentum=0.9),
    "Adagrad": ss.Adagrad,
    "RMSprop": ss.RMSprop,
    "Adam": ss.Adam,
    "AdamW": ss.AdamW,
}


@dataclass(frozen=True)
class Settings:
    """How long the demo may take."""

    epochs: int = 20
    seeds: int = 3
    rates: int = 13
    hidden: tuple[int, ...] = (32,)

    @classmethod
    def quick(cls) -> Settings:
        """A few seconds: for a first look, and for the tests."""
        return cls(epochs=8, seeds=1, rates=7)


@dataclass(frozen=True)
class TrainingRun:
    """One training run: what was asked for and how it ended."""

    name: str
    lr: float
    seed: int
    accuracy: float
    loss: float
    history: Any = field(repr=False)
    diagnosis: Any = field(repr=False)

    @property
    def verdict(self) -> str:
        """One word on the run."""
        return str(self.diagnosis.verdict)


@dataclass
class Story:
    """All results, in the order they are told."""

    settings: Settings
    seed: int
    problem: Any = None
    found: Any = None
    grid: list[TrainingRun] = field(default_factory=list)
    low: TrainingRun | None = None
    right: TrainingRun | None = None
    high: TrainingRun | None = None
    schedules: dict[str, list[TrainingRun]] = field(default_factory=dict)
    plans: dict[str, Any] = field(default_factory=dict)
    starts: tuple[float, ...] = (1.0, 3.0, 10.0)
    rules: dict[str, list[TrainingRun]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def best(self) -> TrainingRun:
        """The most accurate run of the grid."""
        return max(self.grid, key=lambda run: run.accuracy)

    @property
    def gap(self) -> float:
        """Points of accuracy by which the best of the grid beats the suggested rate."""
        assert self.right is not None
        return 100 * (self.best.accuracy - self.right.accuracy)

    @property
    def holds(self) -> dict[str, bool]:
        """What the demo sets out to show, each judged from the numbers."""
        assert self.low is not None
        assert self.high is not None
        return {
            "the suggested rate is within 3 points of the best of the grid": self.gap <= 3,
            "the low rate is diagnosed too low": self.low.verdict == "too_low",
            "the high rate is diagnosed diverging or too high": self.high.verdict
            in ("diverging", "too_high"),
        }


def train(
    name: str,
    problem: Any,
    rule: Callable[..., Any],
    lr: Any,
    *,
    epochs: int,
    seed: int,
    callbacks: tuple[Any, ...] = (),
) -> TrainingRun:
    """Train a copy of the problem's network and judge the run on the held-out data."""
    problem = problem.fresh()
    optimizer = rule(problem.params, lr=lr)
    history = ss.fit(
        problem.value_and_grad,
        problem.params,
        optimizer,
        problem.train,
        epochs=epochs,
        validation=problem.validation,
        evaluate=problem.evaluate,
        callbacks=callbacks,
        seed=seed,
        progress=False,
    )
    scores = problem.evaluate(problem.params, problem.validation)
    rate = float(lr) if isinstance(lr, int | float) else float(np.max(history["lr"]))
    return TrainingRun(
        name, rate, seed, scores["accuracy"], scores["loss"], history, ss.diagnose(history)
    )


def find(problem: Any, rule: Callable[..., Any], seed: int) -> Any:
    """The range test on the problem's training data."""
    return ss.lr_find(
        problem.value_and_grad,
        problem.params,
        problem.batches(seed=seed),
        optimizer=rule,
        progress=False,
    )


def schedules_for(rate: float, steps: int) -> dict[str, Any]:
    """The articles' schedules, all from the same rate and over the same number of steps.

    Their other numbers are the customary ones: ten, and a tenth, are used wherever one is needed.
    """
    s = ss.schedules
    quarter = max(1, steps // 4)
    return {
        "constant": s.constant(rate),
        "time-based": s.inverse_time(rate, 10.0, steps),
        "step": s.step_decay(rate, quarter, 0.5),
        "exponential": s.exponential(rate, 0.1, steps),
        "cosine": s.cosine(rate, 0.0, steps),
        "warm-up + cosine": s.warmup_cosine(rate, max(1, steps // 10), steps),
        "cyclic": s.cyclic(rate / 10, rate, max(1, quarter // 2)),
        "plateau": s.constant(rate),
    }


def tell(seed: int = 0, settings: Settings | None = None) -> Iterator[tuple[str, Story]]:
    """Run the chapters one by one; yields each chapter's name when its results are in the story."""
    settings = settings or Settings()
    started = time.perf_counter()
    story = Story(settings, seed)
    story.problem = problems.digits(seed, hidden=settings.hidden)
    for name, chapter in (
        ("find", _find),
        ("grid", _grid),
        ("rates", _rates),
        ("schedules", _schedules),
        ("rules", _rules),
    ):
        chapter(story)
        story.seconds = time.perf_counter() - started
        yield name, story


def _find(story: Story) -> None:
    story.found = find(story.problem, ss.SGD, story.seed)


def _grid(story: Story) -> None:
    epochs = story.settings.epochs
    for rate in np.geomspace(1e-4, 1e2, story.settings.rates).tolist():
        run = train("grid", story.problem, ss.SGD, rate, epochs=epochs, seed=story.seed)
        story.grid.append(run)


def _rates(story: Story) -> None:
    rate, epochs = story.found.suggestion, story.settings.epochs

    def at(name: str, lr: float) -> TrainingRun:
        return train(name, story.problem, ss.SGD, lr, epochs=epochs, seed=story.seed)

    story.low = at("a hundredth", rate / 100)
    story.right = at("suggested", rate)
    story.high = at("a hundred times", rate * 100)


def _seeds(story: Story) -> range:
    return range(story.seed, story.seed + story.settings.seeds)


def _schedules(story: Story) -> None:
    """Every shape gets the same three rates to start from and keeps the one that suits it.

    A rate that will come down may start higher, so one rate for all would favour the constant.
    """
    epochs = story.settings.epochs
    steps = epochs * -(-len(story.problem.train[0]) // 32)
    data = {seed: problems.digits(seed, hidden=story.settings.hidden) for seed in _seeds(story)}
    for times in story.starts:
        plans = schedules_for(float(f"{times * story.found.suggestion:.2g}"), steps)
        for name, plan in plans.items():
            runs = []
            for seed, problem in data.items():
                calls = (_plateau(epochs),) if name == "plateau" else ()
                run = train(name, problem, ss.SGD, plan, epochs=epochs, seed=seed, callbacks=calls)
                runs.append(run)
            known = story.schedules.get(name)
            if known is None or mean_accuracy(runs) > mean_accuracy(known):
                story.schedules[name], story.plans[name] = runs, plan


def mean_accuracy(runs: Sequence[TrainingRun]) -> float:
    """The mean over the seeds."""
    return float(np.mean([run.accuracy for run in runs]))


def _plateau(epochs: int) -> Any:
    return ss.ReduceOnPlateau(monitor="val_loss", factor=0.5, patience=max(1, epochs // 8))


def _rules(story: Story) -> None:
    for seed in _seeds(story):
        problem = problems.digits(seed, hidden=story.settings.hidden)
        for name, rule in RULES.items():
            rate = find(problem, rule, seed).suggestion
            run = train(name, problem, rule, rate, epochs=story.settings.epochs, seed=seed)
            story.rules.setdefault(name, []).append(run)
