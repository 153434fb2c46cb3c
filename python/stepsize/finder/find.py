"""Find a learning rate: a range test, then short races at constant rates, all on copies."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np

from stepsize.arrays import Curve, Nest, ValueAndGrad, copy
from stepsize.finder.hyperparameters import PARAMETERS, find_parameter
from stepsize.finder.racing import (
    PERIOD,
    SPREAD,
    Race,
    Sweep,
    foresight,
    progress,
    race,
    refined,
    sweep,
)
from stepsize.finder.results import LRFindResult, ParameterResult
from stepsize.finder.suggestions import classical, debiased_ema
from stepsize.finder.trials import Batches, Bench
from stepsize.optimizers import SGD
from stepsize.rng import isolate_rng

# Nine in ten of the best rates of bench/advice lie in these intervals around the suggestion.
INTERVALS = {"high": (0.1, 20.0), "medium": (0.1, 20.0), "low": (0.05, 200.0), "none": (1.0, 1.0)}
# The top of a cosine lies above the best constant rate, which has to end in its own noise: by a
# quarter of a decade for most of the tuning half.
DECAY_LIFT = 0.25


@dataclass(frozen=True)
class _Settings:
    lr_min: float
    lr_max: float
    steps: int
    spacing: str
    smoothing: float
    stop_ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.lr_min < self.lr_max < math.inf:
            raise ValueError(
                "lr_find: need 0 < lr_min < lr_max, both finite, got "
                f"lr_min={self.lr_min} and lr_max={self.lr_max}"
            )
        if self.steps < 20:
            raise ValueError(f"lr_find: steps must be at least 20, got {self.steps}")
        if self.spacing not in ("exponential", "linear"):
            raise ValueError(
                f"lr_find: spacing must be 'exponential' or 'linear', got {self.spacing!r}"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"lr_find: smoothing must be in [0, 1), got {self.smoothing}")
        if not self.stop_ratio > 0:
            raise ValueError(f"lr_find: stop_ratio must be positive, got {self.stop_ratio}")

    @property
    def sweep_steps(self) -> int:
        return max(12, self.steps // 5)

    @property
    def race_steps(self) -> int:
        return max(3, round(0.12 * self.steps))


@dataclass(frozen=True)
class _Advice:
    """What one pass over the batches advises; the rate is NaN when no trial learnt anything."""

    sweep: Sweep
    race: Race
    rate: float
    peak: float


def _rates(low: float, high: float, count: int, spacing: str) -> list[float]:
    space = np.linspace if spacing == "linear" else np.geomspace
    return [float(r) for r in space(low, high, count)]


def _swept(bench: Bench, s: _Settings, first_batch: int) -> Sweep:
    """A range test, moved down when all of its range diverges, and up when it ends too early."""

    def look(low: float, high: float) -> Sweep:
        rates = _rates(low, high, s.sweep_steps, s.spacing)
        return sweep(bench.trial(first_batch, PERIOD), rates, s.stop_ratio)

    low, high = s.lr_min, s.lr_max
    found = look(low, high)
    while bench.left > s.steps // 2 and low > 1e-40:
        if found.diverged and len(found.losses) <= PERIOD + 3:
            low, high = low * 1e-6, low * 10
            found = look(low, high)
        elif not found.diverged and found.half_at >= len(found.losses) - 3 and high < 1e12:
            low, high = high / 10, high * 1e5
            higher = look(low, high)
            if higher.learnt <= found.learnt:
                break
            found = higher
        else:
            break
    return found


def _advise(bench: Bench, s: _Settings, first_batch: int) -> _Advice:
    swept = _swept(bench, s, first_batch)
    if not len(swept.losses):
        return _Advice(swept, Race(()), math.nan, math.nan)
    raced = race(bench, swept, s.race_steps, first_batch)
    best = raced.best
    if best.failure is not None or swept.learnt <= 0:
        return _Advice(swept, raced, math.nan, math.nan)
    shift, lift = foresight(bench, best.rate, first_batch)
    return _Advice(swept, raced, raced.favourite * 10**shift, raced.favourite * 10**lift)


def _refine(bench: Bench, passes: list[_Advice], length: int, first_batch: int) -> _Advice:
    """One advice in place of all passes, from longer races around their mean."""
    rates = [a.rate for a in passes if math.isfinite(a.rate)]
    raced = refined(bench, float(np.exp(np.mean(np.log(rates)))), length, first_batch)
    if not math.isfinite(raced.favourite):
        return passes[0]
    peak = raced.favourite * 10**DECAY_LIFT
    return replace(passes[0], race=raced, rate=raced.favourite, peak=peak)


def _confidence(passes: list[_Advice]) -> tuple[str, str]:
    """How far to trust the suggestion, and why; the thresholds are those of bench/advice."""
    if not passes:
        return "none", ""
    spread = max(a.rate for a in passes) / min(a.rate for a in passes)
    if spread > 4:
        return "low", f"repeats differ by a factor of {spread:.1f}"
    finalists = [t for t in passes[0].race.trials[:2] if t.failure is None]
    if len(finalists) < 2:
        return "low", "only one of the rates tried did not diverge"
    first, second = (np.asarray(t.losses) for t in finalists)
    size = min(len(first), len(second))
    late = slice(size // 2, size)
    noise = float(np.std(np.diff(first[late]))) / math.sqrt(2) + 1e-300
    start = passes[0].sweep.start
    thirds = [float(third.mean()) for third in np.array_split(first, 3)]
    learnt = (start - thirds[2]) / noise
    falling = (thirds[1] - thirds[2]) / max(thirds[0] - thirds[2], 1e-300)
    lead = second[late] - first[late]
    clear = float(lead.mean()) > 2 * float(lead.std()) / math.sqrt(max(len(lead) - 1, 1))
    won = f"{finalists[0].rate:.1e} won"
    if learnt < 1.5:
        return "low", f"{won}, but the loss fell by less than its noise in {size} steps"
    if learnt < 15:
        return "medium", f"{won}, on a noisy loss"
    if size < 25 or falling > 0.2 or thirds[0] < thirds[2]:
        return "medium", f"{won}, but {size} steps were too short to settle it"
    if abs(math.log(passes[0].race.favourite / finalists[0].rate)) > math.log(SPREAD) / 2:
        return "medium", f"{won}, but others learnt almost as much"
    if not clear:
        return "medium", f"{won}, closely before {finalists[1].rate:.1e}"
    return "high", f"{won} clearly"


def _call(optimizer: Any) -> str:
    """The line that makes this optimizer, with `{}` for the rate."""
    kind = type(optimizer)
    fields = getattr(kind, "fields", {})
    told = [
        f"{name}={value!r}"
        for name, value in getattr(optimizer, "hyperparams", {}).items()
        if name in fields and name != "lr" and value != fields[name].default
    ]
    return f"ss.{kind.__name__}(params, " + ", ".join(["lr={}", *told]) + ")"


def _line(optimizer: Any, lr: float) -> str:
    return f"optimizer = {_call(optimizer).format(f'{lr:.1e}')}"


def _curve(passes: list[_Advice]) -> tuple[Curve, Curve]:
    """Rates and losses of the range test: those of the first pass, or means over all passes."""
    first = passes[0].sweep
    same = [a.sweep for a in passes if a.sweep.lrs[:1].tolist() == first.lrs[:1].tolist()]
    length = min(len(w.losses) for w in same)
    return first.lrs[:length], np.mean([w.losses[:length] for w in same], axis=0)


def _why_not(tried: _Advice) -> str:
    """Why there is no usable rate."""
    if not len(tried.sweep.losses):
        return "the loss is not finite at the starting parameters"
    failures = [t.failure for t in tried.race.trials if t.failure is not None]
    if failures and len(failures) == len(tried.race.trials):
        return f"every rate tried lost the loss; at the lowest, {failures[-1]}"
    return "no rate tried made the loss fall"


def _result(passes: list[_Advice], s: _Settings, bench: Bench) -> LRFindResult:
    lrs, losses = _curve(passes)
    kept = s.smoothing ** (100 / s.sweep_steps)
    level = progress(losses) + (losses[:PERIOD].mean() if len(losses) else 0.0)
    smoothed = debiased_ema(level, kept)
    good = [a for a in passes if math.isfinite(a.rate)]
    rate = float(np.exp(np.mean(np.log([a.rate for a in good])))) if good else math.nan
    peak = float(np.exp(np.mean(np.log([a.peak for a in good])))) if good else math.nan
    confidence, why = _confidence(good)
    below, above = INTERVALS[confidence]
    return LRFindResult(
        suggestion=rate,
        suggestions={**classical(lrs, smoothed), "race": rate},
        peak=peak,
        interval=(rate * below, rate * above),
        confidence=confidence,
        why=why or _why_not(passes[0]),
        stopped=passes[0].sweep.stopped,
        lrs=lrs,
        losses=losses,
        smoothed=smoothed,
        probes=tuple((t.rate, np.asarray(t.losses)) for t in passes[0].race.trials),
        gradients=bench.spent,
        call=_call(bench.build(copy(bench.params))),
    )


def ticker(
    progress_bar: bool | None, total: int, name: str = "lr_find"
) -> tuple[Callable[[], object], Any]:
    """A function to call at each gradient, and the bar to close."""
    shown = sys.stderr.isatty() if progress_bar is None else progress_bar
    if not shown:
        return (lambda: None), None
    from tqdm import tqdm

    bar = tqdm(total=total, desc=name, unit="gradient", leave=False)
    return bar.update, bar


class _Options(TypedDict, total=False):
    optimizer: Any
    lr_min: float
    lr_max: float
    steps: int
    spacing: str
    smoothing: float
    stop_ratio: float
    repeats: int
    refine: bool | int
    progress: bool | None


@overload
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: Literal["lr"] = "lr",
    **options: Unpack[_Options],
) -> LRFindResult: ...
@overload
def lr_find(
    value_and_grad: ValueAndGrad,
    params: Nest,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    parameter: Literal["momentum", "weight_decay", "batch_size"],
    **options: Unpack[_Options],
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

    A fifth of the gradients sweep the rate from `lr_min` to `lr_max`, until much of what was learnt
    is lost again; the rest race constant rates around the place where the loss fell. The sweep is
    repeated lower or higher when nothing happens inside its range. Parameters, optimizer and random
    generators come back bit for bit, also when `value_and_grad` raises, whose exception is passed
    on; one that reports an overflow counts as a lost loss.

    Args:
        value_and_grad: ``(params, batch) -> (loss, grads)``, the loss of any sign and scale.
        params: the starting point; only copies of it are changed.
        batches: an iterable of batches, or a function that returns one; a short one is cycled.
        parameter: what to find. "momentum" and "weight_decay" are raced at the rate found first,
            for as many gradients again, and "batch_size" is the gradient noise scale half way
            through as many; these return a `ParameterResult`.
        optimizer: a class, its name, a function ``params -> optimizer``, or an optimizer, whose
            state the copies start from. Groups with rates of their own keep their ratios; the
            rates found are then those of the fastest group.
        lr_min, lr_max: ends of the sweep.
        steps: the budget of gradients, at least 20.
        spacing: of the rates in the sweep, "exponential" or "linear".
        smoothing: the share that the averaged curve keeps over a hundredth of the sweep.
        stop_ratio: the sweep ends when so many times what was gained is lost again.
        repeats: average over so many passes, each over other batches.
        refine: how many steps the training will have. Longer races around the first answer then
            raise the cost to that of two such trainings; True stands for ``2 * steps``.
        progress: None shows a bar in terminals.

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
    settings = _Settings(lr_min, lr_max, steps, spacing, smoothing, stop_ratio)
    length = 2 * steps if refine is True else int(refine)
    if length and length < steps:
        raise ValueError(f"lr_find: refine must be at least steps={steps}, got {refine}")
    if parameter not in ("lr", *PARAMETERS):
        allowed = ", ".join(("lr", *PARAMETERS))
        raise ValueError(f"lr_find: parameter must be one of {allowed}, got {parameter!r}")
    if repeats < 1:
        raise ValueError(f"lr_find: repeats must be at least 1, got {repeats}")
    tick, bar = ticker(progress, steps * repeats)
    ignored = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
    try:
        with isolate_rng(value_and_grad, batches), ignored:
            bench = Bench(value_and_grad, params, Batches(batches), optimizer, 0, tick)
            passes = []
            for repeat in range(repeats):
                bench.left = steps
                passes.append(_advise(bench, settings, repeat * steps))
            bench.left += 2 * length - steps
            if length and math.isfinite(passes[-1].rate):
                passes = [_refine(bench, passes, length, steps * repeats)]
            found = _result(passes, settings, bench)
            if parameter == "lr":
                return found
            bench.left = max(2 * length, steps)
            unread = steps * repeats + length
            return find_parameter(bench, parameter, found, length or steps, unread, _line)
    finally:
        if bar is not None:
            bar.close()
