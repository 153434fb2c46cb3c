"""Go on at other rates on copies, and compare: `what_if`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from stepsize.arrays import Curve, Nest, ValueAndGrad, check_function, flatten, where_not_finite
from stepsize.experiments.branches import OWNER, Laboratory
from stepsize.experiments.results import Branch, WhatIf
from stepsize.finder.cached_batches import CachedBatches, source_of
from stepsize.finder.trials import ticker
from stepsize.names import closed, refuse_unknown
from stepsize.optimizers import Optimizer
from stepsize.optimizers.ascent import refuse_ascent
from stepsize.optimizers.transaction import alone
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.optimizers.wrappers.gradients import per_step
from stepsize.rng import isolate_rng
from stepsize.validation import truth, whole

SHARE = 20  # a branch is this part of the run
FEWEST = 10  # steps of a branch
MOST_BATCHES = 2**31 - 1  # that are kept
FEWEST_HELD = 2  # batches: one has no spread


@closed
def what_if(
    value_and_grad: ValueAndGrad,
    params: Nest,
    optimizer: Optimizer | Wrapper,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    factors: Sequence[float] = (0.1, 0.3, 1, 10),
    steps: int | None = None,
    history: Mapping[str, Any] | None = None,
    held: int = 16,
    average: bool = True,
    memorise: float | bool = 0.1,
    loss: Callable[[Nest, Any], Any] | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    **unknown: NoReturn,
) -> WhatIf:
    """See how a run would go on at other rates, from its present state, on copies.

    Each branch clones parameters and optimizer, multiplies the rate, or its schedule, by a factor
    and makes ``steps`` steps over the same batches; before and after, all are measured on the same
    held batches, so that differences are paired:

        gain(f) = mean_k(l_k(now) - l_k(f)),   error = std_k(l_k(now) - l_k(f)) / sqrt(held)

    Parameters, optimizer and random generators come back bit for bit, also when the function
    raises; its exception is passed on. Ctrl-C ends it with what is known by then. One copy of
    parameters and state is alive at a time, with ``average`` also one of the parameters in float64,
    and the batches of one branch are kept.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, as for `fit`.
        params: the parameters of the optimizer; only copies of them are changed.
        optimizer: the optimizer or wrapper of the run, whose state the branches start from.
        batches: an iterable of batches that can be read again, a function that returns one, or a
            tuple of arrays ``(x, y)``. The first ``steps`` are trained on, the next ``held`` held,
            each counting alike. NumPy arrays in them are read-only views.
        factors: of the rate; 1 is always among them.
        steps: of a branch; None is a twentieth of the run so far, at least 10.
        history: of the run so far, for its length and highest rate and for the picture.
        held: batches to measure on, at least 2.
        average: whether to measure the mean of the weights along the branch at the present rate
            too. Where it ends lower, noise is what is left: a lower rate or a decay would do it.
        memorise: share of the run's steps to spend on one batch alone at 0.3 of its highest rate,
            which tells a model that is too small from one that has converged; 0 or False: none.
        loss: ``(params, batch) -> loss`` for the held batches, where that is cheaper.
        batch_size: rows of a batch where ``batches`` is a tuple of arrays, 32 when left out.
        progress: whether to show a bar; None shows one in terminals and notebooks.

    Returns:
        A `WhatIf`: gains with their errors by factor, what diverged, ``best``, ``table()``,
        ``plot()``, and the cost in gradients.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
        RuntimeError: the optimizer is at work in another thread; nothing has been evaluated.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> def value_and_grad(p, batch):
        ...     return float(p @ p), 2 * p
        >>> opt = ss.SGD(x, lr=0.01)
        >>> result = ss.what_if(value_and_grad, x, opt, [None], steps=20, memorise=False)
        >>> result.best, x, opt.step_count
        (10.0, array([ 3., -2.]), 0)
    """
    refuse_unknown(what_if, unknown)
    _check(value_and_grad, params, optimizer, loss, held)
    made = _length(history, optimizer)
    length = _steps(steps, made)
    plan = _Plan(
        factors=_factors(factors),
        steps=length,
        held=range(length, length + held),
        average=truth(f"{OWNER}: average", average),
        study=_memorised_steps(memorise, made or SHARE * length),
        highest=_highest_rate(history, optimizer),
    )
    source = CachedBatches(_source(batches, batch_size), OWNER)
    tick, bar = ticker(progress, plan.calls(with_loss=loss is not None), OWNER)
    laboratory = Laboratory(value_and_grad, params, optimizer, source, loss, tick)
    ignored = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
    try:
        with alone(OWNER, optimizer), isolate_rng(value_and_grad, batches, loss), ignored:
            found = _Found(laboratory.held(params, plan.held))
            _require_finite(found.before, [source[number] for number in plan.held])
            found.interrupted = not _measured(laboratory, plan, found)
            apart = _apart(source, length, held)
    finally:
        if bar is not None:
            bar.close()
    return WhatIf(
        branches=tuple(sorted(found.branches, key=lambda branch: branch.factor)),
        lr=_rate(optimizer),
        steps=length,
        run_steps=made,
        before=found.before,
        averaged=found.averaged,
        memorised=found.memorised,
        memorised_steps=plan.study if found.memorised is not None else 0,
        gradients=laboratory.gradients,
        values=laboratory.values,
        apart=apart,
        interrupted=found.interrupted,
        history=history,
    )


def _measured(laboratory: Laboratory, plan: _Plan, found: _Found) -> bool:
    """Measure all that is planned; False where Ctrl-C came after a branch."""
    try:
        _measure(laboratory, plan, found)
    except KeyboardInterrupt:
        if not found.branches:
            raise
        return False
    return True


@dataclass(frozen=True)
class _Plan:
    """What is to be measured: steps of a branch, numbers of held batches, steps on one batch."""

    factors: list[float]
    steps: int
    held: range
    average: bool
    study: int
    highest: float

    def calls(self, with_loss: bool) -> int:
        """Gradients that it takes at most."""
        held = 0 if with_loss else len(self.held)
        branches = len(self.factors) * (self.steps + held)
        return held + branches + (held if self.average else 0) + (self.study and self.study + 1)


@dataclass
class _Found:
    """What is known so far."""

    before: Curve
    branches: list[Branch] = field(default_factory=list)
    averaged: Curve | None = None
    memorised: float | None = None
    interrupted: bool = False


def _measure(laboratory: Laboratory, plan: _Plan, found: _Found) -> None:
    """Run the branches, that at the present rate first, then the batch learnt by heart."""
    for factor in sorted(plan.factors, key=lambda f: abs(math.log(f))):
        average = plan.average and factor == 1
        branch, mean = laboratory.branch(factor, plan.steps, plan.held, average)
        found.branches.append(branch)
        found.averaged = mean if average else found.averaged
    _warn_of_blindness(laboratory, found)
    if plan.study:
        found.memorised = laboratory.memorise(plan.study, plan.highest)


def _factors(factors: Sequence[float]) -> list[float]:
    try:
        given = [float(factor) for factor in factors]
    except (TypeError, ValueError):
        given = []
    if not given or not all(0 < factor < math.inf for factor in given):
        raise ValueError(
            f"{OWNER}: factors must be positive numbers, such as (0.1, 0.3, 1, 10), got {factors!r}"
        )
    return sorted({1.0, *given})


def _check(value_and_grad: Any, params: Nest, optimizer: Any, loss: Any, held: Any) -> None:
    check_function(OWNER, value_and_grad)
    if not isinstance(optimizer, Optimizer | Wrapper):
        raise TypeError(
            f"{OWNER}: optimizer must be the optimizer of the run, got {optimizer!r:.80}"
        )
    refuse_ascent(OWNER, optimizer)
    if not flatten(params)[0]:
        raise ValueError(f"{OWNER}: params holds no array; give the nest of the optimizer")
    updated = {id(leaf) for leaf in flatten(optimizer.params)[0]}
    for leaf, path in zip(*flatten(params)[:2], strict=True):
        if id(leaf) not in updated:
            raise ValueError(
                f"{OWNER}: the array {path} of params is not one that the optimizer updates: give "
                "the nest that the optimizer was made with"
            )
    if per_step(optimizer) > 1:
        raise ValueError(
            f"{OWNER}: an optimizer inside Accumulate(every={per_step(optimizer)}) makes one step "
            "of several batches; give the one inside, opt.inner, and batches of that many rows"
        )
    if loss is not None:
        check_function(OWNER, loss, "loss", "loss")
    if whole(f"{OWNER}: held", held, most=MOST_BATCHES) < FEWEST_HELD:
        raise ValueError(f"{OWNER}: held must be at least {FEWEST_HELD}, got {held}")
    if getattr(optimizer, "needs_closure", False) and getattr(optimizer, "adapts_lr", False):
        raise ValueError(
            f"{OWNER}: {type(optimizer).__name__} finds the length of its steps by line search: "
            "another rate would change nothing"
        )


def _length(history: Mapping[str, Any] | None, optimizer: Any) -> int:
    if history is None:
        return int(optimizer.step_count)
    if not isinstance(history, Mapping) or "loss" not in history:
        raise TypeError(
            f"{OWNER}: history must be a History or a mapping with a series 'loss', got "
            f"{type(history).__name__}"
        )
    return max(len(history["loss"]), int(optimizer.step_count))


def _steps(steps: int | None, made: int) -> int:
    if steps is not None:
        return whole(f"{OWNER}: steps", steps, most=MOST_BATCHES)
    if made == 0:
        raise ValueError(
            f"{OWNER}: the optimizer has made no step, so that there is no run to take a twentieth "
            "of; give steps=, or find a first rate with lr_find"
        )
    return max(FEWEST, made // SHARE)


def _memorised_steps(share: float | bool, run: int) -> int:
    if share is False:
        return 0
    if share is True or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(
            f"{OWNER}: memorise must be a share of the run from 0 to 1, or False, got {share!r}"
        )
    return math.ceil(share * run)


def _rate(optimizer: Any) -> float:
    rates = optimizer.hyperparams["lr"]
    return float(max(rates) if isinstance(rates, tuple) else rates)


def _highest_rate(history: Mapping[str, Any] | None, optimizer: Any) -> float:
    recorded = history["lr"] if history is not None and "lr" in history else ()
    return max([rate for rate in map(float, recorded) if math.isfinite(rate)] + [_rate(optimizer)])


def _source(batches: Any, batch_size: int | None) -> Any:
    if isinstance(batches, Iterator):
        raise TypeError(
            f"{OWNER}: batches is an iterator, which the run itself would miss afterwards; give a "
            "list of batches, a tuple of arrays, or a function that returns an iterator"
        )
    return source_of(batches, batch_size, OWNER, drop_last=True)


def _require_finite(before: Curve, held: Sequence[Any]) -> None:
    if not np.isfinite(before).all():
        first = int(np.argmin(np.isfinite(before)))
        if words := where_not_finite(held[first]):
            raise ValueError(
                f"{OWNER}: the loss is {before[first]} for a held batch that {words}: mend the "
                "data, or leave such rows out"
            )
        raise ValueError(
            f"{OWNER}: the loss is {before[~np.isfinite(before)][0]} at the present parameters; "
            "the run has diverged, and no rate brings it back: return to an earlier state"
        )


def _warn_of_blindness(laboratory: Laboratory, found: _Found) -> None:
    """Warn of a function that steps do not reach, whose gains are 0 with an error of 0."""
    losses = [branch.held for branch in found.branches]
    unmoved = all(np.array_equal(after, found.before) for after in losses)
    if losses and unmoved and laboratory.moved:
        warnings.warn(
            f"{OWNER}: steps were made on copies of the parameters, and no held loss has changed "
            "by a bit, so that the gains of 0 tell nothing: value_and_grad, and loss=, must "
            "compute the loss from the params given to them, not from arrays of their own",
            UserWarning,
            stacklevel=4,
        )


def _apart(source: CachedBatches, steps: int, held: int) -> bool:
    """Whether none of the held batches was trained on."""
    trained = {source.where(k) for k in range(steps)}
    return not any(source.where(k) in trained for k in range(steps, steps + held))
