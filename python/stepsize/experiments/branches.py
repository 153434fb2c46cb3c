"""One branch: a copy of the run that goes on at another rate, over the batches of them all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import (
    Curve,
    Nest,
    Structure,
    ValueAndGrad,
    copy,
    flatten,
    not_finite,
    refuse_writes,
    rows_of,
    unflatten,
    value_and_grad_of,
    view_as_complex,
    view_as_real,
)
from stepsize.errors import NonFiniteGradientError
from stepsize.experiments.results import Branch
from stepsize.finder.cached_batches import CachedBatches
from stepsize.finder.trials import RateStepper
from stepsize.validation import as_loss

OWNER = "what_if"
SEEN = 1e-6  # of the loss: a change that its digits would show
MEMORISED_AT = 0.3  # of the run's highest rate: one batch alone is learnt by heart there


class Average:
    """The running mean of parameters, in float64."""

    def __init__(self, params: Nest) -> None:
        self._params = params
        self._sums = [np.array(view_as_real(leaf), np.float64) for leaf in flatten(params)[0]]
        self._count = 1

    def add(self, params: Nest) -> None:
        """Take these parameters into the mean."""
        self._count += 1
        for mean, leaf in zip(self._sums, flatten(params)[0], strict=True):
            mean += (np.asarray(view_as_real(leaf), np.float64) - mean) / self._count

    def value(self) -> Nest:
        """The mean, in the dtypes of the parameters."""
        leaves = flatten(self._params)[0]
        means = [
            view_as_complex(mean, leaf.dtype).astype(leaf.dtype)
            for mean, leaf in zip(self._sums, leaves, strict=True)
        ]
        return unflatten(Structure(self._params).spec, means)


def number(loss: Any) -> float:
    """What a function of the loss alone returned, as a number."""
    try:
        return as_loss(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"what_if: loss must return one number, it returned {type(loss).__name__}"
        ) from None


Slopes = list[tuple[Any, Any]]  # leaves before a step, and their gradients


def _copies(params: Nest, grads: Nest) -> Slopes:
    places = zip(flatten(params)[0], Structure(params).flatten(grads), strict=True)
    return [(np.array(leaf), np.array(g)) for leaf, g in places if isinstance(g, np.ndarray)]


def _predicted(params: Nest, before: Slopes) -> float:
    """By how much the gradient says that a step changed the loss; 0 where leaves have none."""
    leaves = flatten(params)[0]
    if len(leaves) != len(before):
        return 0.0
    moves = [leaf - old for leaf, (old, _) in zip(leaves, before, strict=True)]
    return abs(sum(float(np.vdot(g, d).real) for (_, g), d in zip(before, moves, strict=True)))


class Laboratory:
    """What all branches share: the function, the present state, batches, and the count of calls."""

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        params: Nest,
        optimizer: Any,
        batches: CachedBatches,
        loss: Callable[[Nest, Any], Any] | None,
        tick: Callable[[], object],
    ) -> None:
        self._value_and_grad = value_and_grad
        self._params = params
        self._optimizer = optimizer
        self._batches = batches
        self._loss = loss
        self._tick = tick
        self.gradients = 0
        self.values = 0
        self.moved = False  # whether a step was long enough to change the loss, by its gradient
        self._sized = False

    def _called(self, params: Nest, batch: Any) -> tuple[float, Nest]:
        self.gradients += 1
        self._tick()
        try:
            return value_and_grad_of(
                self._value_and_grad,
                copy(params),
                batch,
                owner=OWNER,
                state=True,
                kept=flatten(params)[0],
            )
        except (FloatingPointError, OverflowError):
            return math.nan, None
        except (TypeError, ValueError) as error:
            refuse_writes(error, self._value_and_grad, params, batch, OWNER, "value_and_grad")
            raise

    def held(self, params: Nest, numbers: Sequence[int]) -> Curve:
        """The loss of each held batch."""
        self._check_sizes(numbers)
        return np.array([self._value(params, self._batches[k]) for k in numbers])

    def _check_sizes(self, numbers: Sequence[int]) -> None:
        """Say once that held batches of different sizes count alike in the means over them."""
        if self._sized:
            return
        self._sized = True
        known = [rows_of(self._batches[k]) for k in numbers]
        sizes = {rows for rows, seen in known if seen is None}
        if len(sizes) > 1:
            warnings.warn(
                f"{OWNER}: the held batches have from {min(sizes)} to {max(sizes)} rows and count "
                "alike in the means over them; give batches of one size",
                UserWarning,
                stacklevel=4,
            )

    def _value(self, params: Nest, batch: Any) -> float:
        if self._loss is None:
            return self._called(params, batch)[0]
        self.values += 1
        try:
            return number(self._loss(copy(params), batch))
        except (FloatingPointError, OverflowError):
            return math.nan
        except (TypeError, ValueError) as error:
            refuse_writes(error, self._loss, params, batch, OWNER, "loss")
            raise

    def branch(
        self, factor: float, steps: int, held: Sequence[int], average: bool
    ) -> tuple[Branch, Curve | None]:
        """The run for `steps` more steps at `factor` times its rate, and held losses of the mean.

        One copy of parameters and state is alive at a time, and with `average` one in float64.
        """
        params = copy(self._params)
        optimizer = self._optimizer.clone(params)
        optimizer.lr_scale = optimizer.lr_scale * factor
        mean = Average(params) if average else None
        losses: list[float] = []
        failure = None
        for step in range(steps):
            batch = self._batches[step]
            loss, grads = self._called(params, batch)
            if not math.isfinite(loss):
                failure = f"the loss became {loss} after {step} steps"
                break
            losses.append(loss)
            if step == 0:
                slopes = _copies(params, grads)
            try:
                self._step(optimizer, params, batch, loss, grads)
            except NonFiniteGradientError:
                failure = f"{not_finite(grads)} was not finite after {step} steps"
                break
            if step == 0:
                self.moved |= _predicted(params, slopes) > SEEN * abs(loss)
            if mean is not None:
                mean.add(params)
        after = np.full(len(held), math.inf) if failure else self.held(params, held)
        if failure is None and not np.isfinite(after).all():
            failure = f"the loss was not finite after {steps} steps"
        averaged = self.held(mean.value(), held) if mean is not None and failure is None else None
        return Branch(factor, np.asarray(losses), after, failure), averaged

    def _step(self, optimizer: Any, params: Nest, batch: Any, loss: float, grads: Nest) -> None:
        if not getattr(optimizer, "needs_closure", False):
            optimizer.step(grads, loss=loss)
            return
        known = [(loss, grads)]  # what is asked for first
        optimizer.step(lambda point: known.pop() if known else self._called(point, batch))

    def memorise(self, steps: int, highest: float) -> float:
        """The loss of one batch after `steps` steps on it alone, as a share of its loss now."""
        params = copy(self._params)
        stepper = RateStepper(self._optimizer.clone(params), params)
        batch = self._batches[0]
        first = last = math.nan
        for step in range(steps + 1):
            loss, grads = self._called(params, batch)
            if not math.isfinite(loss):
                return math.inf
            first, last = (loss if step == 0 else first), loss
            if step == steps:
                break
            try:
                stepper.step(grads, MEMORISED_AT * highest, loss, self._again(batch))
            except NonFiniteGradientError:
                return math.inf
        return last / first if first > 0 else math.nan

    def _again(self, batch: Any) -> Callable[[Nest], tuple[float, Nest]]:
        return lambda point: self._called(point, batch)
