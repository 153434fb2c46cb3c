"""Find a learning rate: a range test, then short races at constant rates, all on copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, NoReturn, Unpack, overload

import numpy as np

from stepsize.arrays import (
    Curve,
    Nest,
    ValueAndGrad,
    check_function,
    copy,
    flatten,
    path_not_finite,
    where_not_finite,
)
from stepsize.curves import debiased_ema
from stepsize.diagnosis.mismatch import CALL, factor_of, of_pairs, told
from stepsize.diagnosis.silent import WAKE, told_of
from stepsize.diagnosis.thresholds import SILENT_MOST
from stepsize.finder.cached_batches import CachedBatches, source_of
from stepsize.finder.confidence import confidence, interval_of
from stepsize.finder.horizon import (
    LENGTH,
    REFINED_PEAK_LIFT,
    horizon_correction,
    longer,
    moves_without_rate,
)
from stepsize.finder.hyperparameters import PARAMETERS, find_parameter
from stepsize.finder.pasting import constructor_call
from stepsize.finder.racing import Advice, Race, race, refined
from stepsize.finder.range_test import PERIOD, find_range, loss_change
from stepsize.finder.ranks import on_ranks, same_copies, same_optimizer, shared
from stepsize.finder.results import LRFindResult, ParameterResult
from stepsize.finder.settings import FEWEST_STEPS, Options, Settings
from stepsize.finder.suggestions import classical
from stepsize.finder.trials import TrialRunner, ticker
from stepsize.gradients.silence import FEWEST_LOOKS
from stepsize.names import closed, refuse_unknown
from stepsize.optimizers import SGD
from stepsize.optimizers.transaction import alone
from stepsize.optimizers.wrappers.gradients import per_step
from stepsize.rng import isolate_rng


def _geometric_mean(values: Iterable[float]) -> float:
    several = list(values)
    return several[0] if len(several) == 1 else float(np.exp(np.mean(np.log(several))))


def _advise(runner: TrialRunner, settings: Settings, first_batch: int) -> Advice:
    """One pass: a range test, a race around its middle, the correction for the horizon."""
    tested = find_range(runner, settings, first_batch)
    if not len(tested.losses):
        return Advice(tested, Race(()), math.nan, math.nan)
    if reason := moves_without_rate(runner, first_batch):
        return Advice(tested, Race(()), math.nan, math.nan, reason)
    exact = runner.repeatable(first_batch)
    raced = race(runner, tested, settings, first_batch, exact)
    if not math.isfinite(raced.weighted_rate) or tested.decrease <= 0:
        return Advice(tested, raced, math.nan, math.nan)
    shift, lift = horizon_correction(runner, raced.best.rate, first_batch)
    if exact:
        # Without noise the winner has won, and of the rates above some may be unstable.
        most = max(t.rate for t in raced.trials if t.score() < tested.losses[0])
        rate = raced.best.rate
        peak = max(rate, settings.bounded(min(rate * 10**lift, most)))
        return Advice(tested, raced, rate, peak)
    rate, peak = (settings.bounded(raced.weighted_rate * 10**decades) for decades in (shift, lift))
    return Advice(tested, raced, rate, peak)


def _refine(
    runner: TrialRunner, passes: list[Advice], settings: Settings, first_batch: int
) -> Advice:
    """One advice in place of all passes, from longer races around their mean."""
    rate = _geometric_mean(a.rate for a in passes if math.isfinite(a.rate))
    raced = refined(runner, rate, settings, first_batch)
    if not math.isfinite(raced.weighted_rate):
        return passes[0]
    rate, lift = raced.weighted_rate, 10**REFINED_PEAK_LIFT
    rate, peak = settings.bounded(rate), settings.bounded(rate * lift)
    before = tuple(a.race.best.rate for a in passes if math.isfinite(a.rate))
    return replace(passes[0], race=raced, rate=rate, peak=peak, before=before)


def _curve(passes: list[Advice]) -> tuple[Curve, Curve]:
    """Rates and losses of the range test: those of the first pass, or means over all passes."""
    first = passes[0].range_test
    tests = [a.range_test for a in passes]
    same = [t for t in tests if t.lrs[:1].tolist() == first.lrs[:1].tolist()]
    length = min(len(t.losses) for t in same)
    return first.lrs[:length], np.mean([t.losses[:length] for t in same], axis=0)


def _why_not(tried: Advice, params: Nest, first: Any) -> str:
    """Why there is no usable rate; `first` is the first batch."""
    if tried.reason:
        return tried.reason
    if not len(tried.range_test.losses):
        path, words = path_not_finite(params), where_not_finite(first)
        odd = "" if path is None else f": {path} holds NaN or infinity before any step"
        odd = f"; the batch {words}" if words and not odd else odd
        return f"the loss is not finite at the starting parameters{odd}"
    failures = [t.failure for t in tried.race.trials if t.failure is not None]
    if failures and len(failures) == len(tried.race.trials):
        return f"the loss diverged at every rate tried; at the lowest, {failures[-1]}"
    return "no rate tried made the loss fall"


def _of_range(rate: float, settings: Settings, passes: list[Advice]) -> str:
    """What the ends of the range have to do with a rate, or with there being none."""
    least, most = settings.bounds
    given = [f"lr_min={least:g}"] if least else []
    given += [f"lr_max={most:g}"] if most < math.inf else []
    if not math.isfinite(rate):
        return f"; {' and '.join(given)} bound the rates that were tried" if given else ""
    sides = ((most, "lr_max", "higher", max), (least, "lr_min", "lower", min))
    for end, name, word, outer in sides:
        if rate == end:
            return f"; it is {name}={end:g}, and {word} rates may be better"
        if 2 * sum(a.decided_by(end, outer) for a in passes) >= len(passes):
            return f"; {name}={end:g} bound the races, and {word} rates may be better"
    if not settings.lr_min <= rate <= settings.lr_max:
        return (
            f"; it lies outside of {settings.lr_min:g} to {settings.lr_max:g}, where nothing fell"
        )
    return ""


def _check_updates(runner: TrialRunner, steps: int) -> None:
    """Refuse a budget of gradients that makes too few updates inside `Accumulate`."""
    every = per_step(runner.build(copy(runner.params)))
    if steps // every < FEWEST_STEPS:
        raise ValueError(
            f"lr_find: inside Accumulate(every={every}) steps={steps} gradients make "
            f"{steps // every} updates, at least {FEWEST_STEPS} are needed: give "
            f"steps={FEWEST_STEPS * every}, or the optimizer inside and batches of as many rows"
        )


def _result(
    passes: list[Advice], settings: Settings, runner: TrialRunner, look: bool
) -> LRFindResult:
    lrs, losses = _curve(passes)
    level = loss_change(losses) + (losses[:PERIOD].mean() if len(losses) else 0.0)
    smoothed = debiased_ema(level, settings.ema_decay)
    good = [a for a in passes if math.isfinite(a.rate)]
    rate, peak = math.nan, math.nan
    if good:
        rate = settings.bounded(_geometric_mean(a.rate for a in good))
        peak = settings.bounded(_geometric_mean(a.peak for a in good))
    trust, why = confidence(good)
    decades = 0.0
    if good and settings.for_steps is not None:
        length = settings.horizon or LENGTH
        decades, rule = longer(runner, rate, 0, length, settings.for_steps)
        rate, peak = (settings.bounded(r * 10**decades) for r in (rate, peak))
        why = f"{why}; {rule}"
    mismatch, usable = _mismatch(runner, look)
    unsound = runner.unsound() if len(passes[0].range_test.losses) else ""
    if unsound and good:
        mismatch, usable = "", False
    if not usable:
        rate, peak, trust, why = math.nan, math.nan, "none", unsound or mismatch
    elif unsound:
        why = f"{_why_not(passes[0], runner.params, runner.batches[0])}; {unsound}"
    return LRFindResult(
        suggestion=rate,
        suggestions={**classical(lrs, smoothed), "race": rate},
        peak=peak,
        interval=interval_of(rate, peak, settings, good, trust, decades),
        confidence=trust,
        why=(why or _why_not(passes[0], runner.params, runner.batches[0]))
        + (_of_range(rate, settings, good) if usable else ""),
        stopped=passes[0].range_test.stopped,
        lrs=lrs,
        losses=losses,
        smoothed=smoothed,
        probes=tuple((t.rate, np.asarray(t.losses)) for t in passes[0].race.trials),
        gradients=runner.spent,
        call=constructor_call(runner.build(copy(runner.params))),
        bounds=settings.bounds,
        mismatch=mismatch,
        checks=runner.checks,
    )


def _mismatch(runner: TrialRunner, look: bool) -> tuple[str, bool]:
    """What speaks against the gradients in words, and whether a rate for them is of use."""
    found = of_pairs(runner.pairs)
    silent, share, since = told_of(
        runner.silence.units() if runner.silence.looks >= FEWEST_LOOKS else []
    )
    if found is None and since < 0 and share >= SILENT_MOST:
        return f"{silent}: {WAKE}", share < 1
    if found is None:
        # The loss may fall although a small part of the gradient is wrong.
        doubts = runner.doubts() if look else ""
        words = f"the gradient does not fit the loss: {doubts}; {CALL} says more" if doubts else ""
        return words, not doubts
    evidence, ratios = found
    words = f"the gradient does not fit the loss: {told(evidence, 'a step on one batch')}; {CALL}"
    shapes = [getattr(leaf, "shape", ()) for leaf in flatten(runner.batches[0])[0]]
    rows = next((shape[0] for shape in shapes if shape), None)
    factor = factor_of(ratios, rows)
    if factor is None:
        return f"{words} says which one is wrong, and how", False
    times = f"{factor:g}" if factor >= 1 else f"1/{1 / factor:g}"
    return f"{words} says where a factor of {times} is missing", True


def _passes(runner: TrialRunner, settings: Settings) -> list[Advice]:
    """The passes over the batches, or what became of them in longer races."""
    passes, steps, length = [], settings.steps, settings.horizon
    for repeat in range(settings.repeats):
        runner.grant(steps)
        passes.append(_advise(runner, settings, repeat * steps))
    if length and math.isfinite(passes[-1].rate):
        runner.grant(runner.budget + 2 * length - steps)
        passes = [_refine(runner, passes, settings, steps * settings.repeats)]
    return passes


def _check_call(parameter: Any, value_and_grad: Any) -> None:
    if not isinstance(parameter, str) or parameter not in ("lr", *PARAMETERS):
        allowed = ", ".join(("lr", *PARAMETERS))
        raise ValueError(f"lr_find: parameter must be one of {allowed}, got {parameter!r:.80}")
    check_function("lr_find", value_and_grad)


@overload
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: Literal["lr"] = "lr",
    optimizer: Any = ...,
    progress: bool | None = None,
    comm: Any = None,
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
    comm: Any = None,
    **options: Unpack[Options],
) -> ParameterResult: ...
@closed
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
    batch_size: int | None = None,
    for_steps: int | None = None,
    progress: bool | None = None,
    comm: Any = None,
    **unknown: NoReturn,
) -> LRFindResult | ParameterResult:
    """Suggest a learning rate from at most `steps` gradients per repeat, all taken on copies.

    A range test spends a fifth of the gradients: it raises the rate from `lr_min` to `lr_max` until
    much of the decrease is lost again. The rest goes to races at constant rates around the place
    where the loss fell. The range is moved lower or higher when nothing happens inside it.
    Parameters, optimizer and random generators come back bit for bit, also when `value_and_grad`
    raises; its exception is passed on, but for an overflow, which counts as divergence.

    The range test also compares the change of the loss of a batch with what its gradients say.
    Where they do not fit there is no suggestion, and `mismatch` says so with the numbers; where
    they do but for a factor of 2, 1/2 or the rows of a batch, the rate found goes with them.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss of any sign and scale.
        params: the starting point; only copies of it are changed.
        batches: an iterable of batches, or a function that returns one; a short one is cycled. A
            tuple of arrays ``(x, y)`` is one data set, cut into batches along the first axis. NumPy
            arrays in them are read-only views.
        parameter: the hyperparameter to find. "momentum" and "weight_decay" are raced at the rate
            found first, for as many gradients again; "batch_size" is the gradient noise scale half
            way through as many. These return a `ParameterResult`.
        optimizer: a class, its name, a function ``params -> optimizer``, or an optimizer, whose
            state the copies start from. Groups with rates of their own keep their ratios; the
            rates found are then those of the fastest group.
        lr_min, lr_max: ends of the range test. An end other than the default binds: no rate beyond
            it is tried or suggested. The default ones are moved where the loss does not fall.
        steps: the budget of gradients, at least 20; inside `Accumulate`, at least 20 updates.
        spacing: of the rates in the range test, "exponential" or "linear".
        smoothing: decay of the averaged curve (EMA), per hundredth of the range test.
        stop_ratio: the range test ends when so many times the decrease is lost again.
        repeats: passes to average over, each over other batches.
        refine: steps of the training to come. Longer races around the first answer then raise the
            cost to that of two such trainings; True stands for ``2 * steps``.
        batch_size: rows of a batch where ``batches`` is a tuple of arrays, 32 when left out.
        for_steps: the length of the training to come, for rules whose steps ignore the size of the
            gradient, as Adam's. The rate is then moved from 400 steps, or those of ``refine``, by
            ``steps**-0.32``, as in `transfer`; the printed text says so.
        progress: whether to show a bar; None shows one in terminals and notebooks.
        comm: the ranks of several processes, as in `fit`: each evaluates its share of the rows of
            every batch where ``batches`` is a tuple of arrays, else batches of its own; all get the
            same result.

    Raises:
        ValueError: a setting is out of range, or there is no batch.
        RuntimeError: the optimizer given is at work in another thread; nothing has been evaluated.

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
    refuse_unknown(lr_find, unknown)
    with on_ranks(comm) as team:
        sweep = lr_min, lr_max, steps, spacing, smoothing, stop_ratio
        settings = Settings(*sweep, repeats, refine, batch_size, for_steps)
        _check_call(parameter, value_and_grad)
        length = settings.horizon
        given = source_of(batches, batch_size)
        function = value_and_grad
        if team is not None:
            params = same_copies(team, params, given, settings)
            function = shared(team, function, params, given)
            progress = progress if team.leads else False
        tick, bar = ticker(progress, steps * repeats)
        ignored = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
        try:
            with alone("lr_find", optimizer), isolate_rng(value_and_grad, batches), ignored:
                runner = TrialRunner(function, params, CachedBatches(given), optimizer, tick)
                if team is not None:
                    same_optimizer(team, runner.build(copy(params)), parameter)
                _check_updates(runner, steps)
                passes = _passes(runner, settings)
                found = _result(passes, settings, runner, look=parameter == "lr")
                if parameter == "lr":
                    return found
                runner.grant(max(2 * length, steps))
                unread = steps * repeats + length
                return find_parameter(runner, parameter, found, length or steps, unread)
        finally:
            if bar is not None:
                bar.close()
