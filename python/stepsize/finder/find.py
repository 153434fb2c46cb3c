"""Find a learning rate: a range test, then short races at constant rates, all on copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import numpy as np

from stepsize.arrays import copy
from stepsize.curves import Curve, debiased_ema
from stepsize.finder.confidence import INTERVALS, confidence
from stepsize.finder.horizon import REFINED_PEAK_LIFT, horizon_correction
from stepsize.finder.hyperparameters import PARAMETERS, find_parameter
from stepsize.finder.racing import Advice, Race, race, refined
from stepsize.finder.range_test import PERIOD, find_range, loss_change
from stepsize.finder.results import LRFindResult, ParameterResult, constructor_call
from stepsize.finder.settings import Options, Settings
from stepsize.finder.suggestions import classical
from stepsize.finder.trials import (
    CachedBatches,
    Nest,
    TrialRunner,
    ValueAndGrad,
    randomness_kept,
    ticker,
)
from stepsize.optimizers import SGD


def _geometric_mean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))


def _advise(runner: TrialRunner, settings: Settings, first_batch: int) -> Advice:
    """One pass: a range test, a race around its middle, the correction for the horizon."""
    tested = find_range(runner, settings, first_batch)
    if not len(tested.losses):
        return Advice(tested, Race(()), math.nan, math.nan)
    raced = race(runner, tested, settings.race_steps, first_batch)
    best = raced.best
    if best.failure is not None or tested.decrease <= 0:
        return Advice(tested, raced, math.nan, math.nan)
    shift, lift = horizon_correction(runner, best.rate, first_batch)
    return Advice(tested, raced, raced.weighted_rate * 10**shift, raced.weighted_rate * 10**lift)


def _refine(runner: TrialRunner, passes: list[Advice], length: int, first_batch: int) -> Advice:
    """One advice in place of all passes, from longer races around their mean."""
    rate = _geometric_mean(a.rate for a in passes if math.isfinite(a.rate))
    raced = refined(runner, rate, length, first_batch)
    if not math.isfinite(raced.weighted_rate):
        return passes[0]
    peak = raced.weighted_rate * 10**REFINED_PEAK_LIFT
    return replace(passes[0], race=raced, rate=raced.weighted_rate, peak=peak)


def _curve(passes: list[Advice]) -> tuple[Curve, Curve]:
    """Rates and losses of the range test: those of the first pass, or means over all passes."""
    first = passes[0].range_test
    tests = [a.range_test for a in passes]
    same = [t for t in tests if t.lrs[:1].tolist() == first.lrs[:1].tolist()]
    length = min(len(t.losses) for t in same)
    return first.lrs[:length], np.mean([t.losses[:length] for t in same], axis=0)


def _why_not(tried: Advice) -> str:
    """Why there is no usable rate."""
    if not len(tried.range_test.losses):
        return "the loss is not finite at the starting parameters"
    failures = [t.failure for t in tried.race.trials if t.failure is not None]
    if failures and len(failures) == len(tried.race.trials):
        return f"the loss diverged at every rate tried; at the lowest, {failures[-1]}"
    return "no rate tried made the loss fall"


def _result(passes: list[Advice], settings: Settings, runner: TrialRunner) -> LRFindResult:
    lrs, losses = _curve(passes)
    level = loss_change(losses) + (losses[:PERIOD].mean() if len(losses) else 0.0)
    smoothed = debiased_ema(level, settings.ema_decay)
    good = [a for a in passes if math.isfinite(a.rate)]
    rate = _geometric_mean(a.rate for a in good) if good else math.nan
    peak = _geometric_mean(a.peak for a in good) if good else math.nan
    trust, why = confidence(good)
    below, above = INTERVALS[trust]
    return LRFindResult(
        suggestion=rate,
        suggestions={**classical(lrs, smoothed), "race": rate},
        peak=peak,
        interval=(rate * below, rate * above),
        confidence=trust,
        why=why or _why_not(passes[0]),
        stopped=passes[0].range_test.stopped,
        lrs=lrs,
        losses=losses,
        smoothed=smoothed,
        probes=tuple((t.rate, np.asarray(t.losses)) for t in passes[0].race.trials),
        gradients=runner.spent,
        call=constructor_call(runner.build(copy(runner.params))),
    )


@overload
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: Literal["lr"] = "lr",
    optimizer: Any = ...,
    progress: bool | None = None,
    **options: Unpack[Options],
) -> LRFindResult: ...
@overload
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: Literal["momentum", "weight_decay", "batch_size"],
    optimizer: Any = ...,
    progress: bool | None = None,
    **options: Unpack[Options],
) -> ParameterResult: ...
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: str = "lr",
    optimizer: Any = SGD,
    lr_min: float = 1e-7,
    lr_max: float = 10.0,
    steps: int = 100,
    spacing: str = "exponential",
    smoothing: float = 0.98,
    stop_ratio: float = 4.0,
    repeats: int = 1,
    refine: bool | int = False,
    progress: bool | None = None,
) -> LRFindResult | ParameterResult:
    """Suggest a learning rate from at most `steps` gradients per repeat, all taken on copies.

    A range test spends a fifth of the gradients: it raises the rate from `lr_min` to `lr_max` until
    much of the decrease is lost again. The rest goes to races at constant rates around the place
    where the loss fell. The range is moved lower or higher when nothing happens inside it.
    Parameters, optimizer and random generators come back bit for bit, also when `value_and_grad`
    raises; its exception is passed on, but for an overflow, which counts as divergence.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss of any sign and scale.
        params: the starting point; only copies of it are changed.
        batches: an iterable of batches, or a function that returns one; a short one is cycled.
        parameter: the hyperparameter to find. "momentum" and "weight_decay" are raced at the rate
            found first, for as many gradients again; "batch_size" is the gradient noise scale half
            way through as many. These return a `ParameterResult`.
        optimizer: a class, its name, a function ``params -> optimizer``, or an optimizer, whose
            state the copies start from. Groups with rates of their own keep their ratios; the
            rates found are then those of the fastest group.
        lr_min, lr_max: ends of the range test.
        steps: the budget of gradients, at least 20.
        spacing: of the rates in the range test, "exponential" or "linear".
        smoothing: decay of the averaged curve (EMA), per hundredth of the range test.
        stop_ratio: the range test ends when so many times the decrease is lost again.
        repeats: passes to average over, each over other batches.
        refine: steps of the training to come. Longer races around the first answer then raise the
            cost to that of two such trainings; True stands for ``2 * steps``.
        progress: whether to show a bar; None shows one in terminals.

    Raises:
        ValueError: a setting is out of range, or there is no batch.

    Source: range test, Smith 2017, arXiv:1506.01186, section 3.3; races, successive halving,
    Jamieson & Talwalkar 2016, arXiv:1502.07943.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> params = {"x": np.array([3.0, -2.0])}
        >>> def value_and_grad(p, batch):
        ...     return float(p["x"] @ p["x"]) / 2, {"x": p["x"].copy()}
        >>> result = ss.lr_find(value_and_grad, params, [None])
        >>> 0.1 < result.suggestion < 2
        True
    """
    settings = Settings(lr_min, lr_max, steps, spacing, smoothing, stop_ratio, repeats, refine)
    if parameter not in ("lr", *PARAMETERS):
        allowed = ", ".join(("lr", *PARAMETERS))
        raise ValueError(f"lr_find: parameter must be one of {allowed}, got {parameter!r}")
    length = settings.horizon
    tick, bar = ticker(progress, steps * repeats)
    ignored = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
    try:
        with randomness_kept(value_and_grad, batches), ignored:
            runner = TrialRunner(value_and_grad, params, CachedBatches(batches), optimizer, tick)
            passes = []
            for repeat in range(repeats):
                runner.grant(steps)
                passes.append(_advise(runner, settings, repeat * steps))
            if length and math.isfinite(passes[-1].rate):
                runner.grant(runner.budget + 2 * length - steps)
                passes = [_refine(runner, passes, length, steps * repeats)]
            found = _result(passes, settings, runner)
            if parameter == "lr":
                return found
            runner.grant(max(2 * length, steps))
            unread = steps * repeats + length
            return find_parameter(runner, parameter, found, length or steps, unread)
    finally:
        if bar is not None:
            bar.close()
