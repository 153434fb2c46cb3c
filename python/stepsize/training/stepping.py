"""The step of a run's optimizer, and its rate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from stepsize import arrays
from stepsize.collectives import step_averaged
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.stats import StepStats
from stepsize.training.accumulation import Gradient
from stepsize.training.run import Run


def rate_of(optimizer: Optimizer) -> Callable[[], float]:
    """A function that returns the rate of the next step, of the first group with parameters."""
    # The property ``lr`` makes a tuple of all groups first, which costs as much as a small step.
    parts = optimizer.internals
    group = getattr(optimizer, "lr_group", min(parts.groups.assignment))
    return functools.partial(parts.engine.number, group, "lr")


def stepper_of(run: Run, gradient: Gradient) -> Callable[..., StepStats]:
    """The step of the optimizer; one that takes a function gets that of the current batch."""
    if not getattr(run.optimizer, "needs_closure", False):
        return step_averaged(run.optimizer)
    closure_step = cast(Callable[[Any], float], run.optimizer.step)

    def step(grads: Any, *, loss: float, stats: bool) -> StepStats:
        leaves = arrays.flatten(run.params)[0]
        before = [np.array(leaf) for leaf in leaves]
        closure_step(lambda params: gradient(params, run.batch))
        moves = [leaf - old for leaf, old in zip(leaves, before, strict=True)]
        moved, size = arrays.norm(moves), arrays.norm(before)
        ratio = moved / size if size else math.inf
        return StepStats(arrays.norm(arrays.flatten(grads)[0]), moved, size, ratio, 0)

    return step
