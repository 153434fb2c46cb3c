"""What a problem of the map is, and the list of all.

A problem has a situation, under which the map shows it, and three levels: the same task with a
larger condition number, less light in the noise, more steps to look back. What is asked is stated
with the problem, before any rule is run: the share of the initial error that may be left at the
end. A level is made from a seed: data, start and the noise of every gradient follow from it, and
are the same for every rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Params = dict[str, Array]

SITUATIONS = (
    "convex",
    "valleys, saddles, plateaus",
    "scales that differ",
    "noise",
    "small batches",
    "sparse",
    "networks",
    "matrices",
    "moving targets",
    "bounded",
    "complex",
)
LEVELS = ("easy", "medium", "hard")
STEPS = 600  # gradients that a run may ask for


@dataclasses.dataclass
class Task:
    """One problem, made from a seed."""

    params: Params
    # The loss and its gradients at the parameters, with the noise of one draw.
    gradient: Callable[[Params], tuple[float, Params]]
    # What is wrong still: 0 at the best, without noise.
    error: Callable[[Params], float]
    # The best is not the last: the mean error over the second half counts, as where targets move.
    on_the_way: bool = False
    bounds: tuple[Any, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    name: str
    situation: str
    level: str
    goal: float
    make: Callable[[np.random.Generator], Task]
    words: str

    def task(self, seed: int) -> Task:
        key = [seed, *self.name.encode()]
        return self.make(np.random.default_rng(key))


PROBLEMS: list[Problem] = []


def problem(situation: str, goal: float, *levels: Any) -> Callable[[Any], Any]:
    """Registers a task for each level; `levels` are the values of its second argument."""
    if situation not in SITUATIONS or len(levels) != len(LEVELS):
        raise ValueError(f"{situation}: a known situation and three levels")

    def register(make: Callable[[np.random.Generator, Any], Task]) -> Any:
        words = (make.__doc__ or "").strip().splitlines()[0]
        title = make.__name__.replace("_", " ")
        for level, value in zip(LEVELS, levels, strict=True):
            PROBLEMS.append(
                Problem(
                    f"{title}, {level}",
                    situation,
                    level,
                    goal,
                    lambda rng, value=value: make(rng, value),
                    f"{words} {make.__code__.co_varnames[1].replace('_', ' ')}: {value:g}.",
                )
            )
        return make

    return register


def spectrum(size: int, condition: float) -> Array:
    """Eigenvalues between 1 / condition and 1, evenly on a log scale."""
    return np.logspace(-np.log10(condition), 0, size)


def rotation(rng: np.random.Generator, size: int) -> Array:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def distance(x: Array, best: Array) -> float:
    """The squared distance."""
    return float(np.sum(np.abs(x - best) ** 2))
