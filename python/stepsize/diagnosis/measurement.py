"""Measure the features of a run's curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.curves import (
    TINY,
    block_means,
    difference_noise,
    linear_trend,
    mad_noise,
)
from stepsize.diagnosis import validations
from stepsize.diagnosis.features import (
    CurveFeatures,
    Levels,
    Movement,
    Noise,
    Trend,
    ValidationFeatures,
)
from stepsize.diagnosis.reading import SERIES, read
from stepsize.diagnosis.thresholds import BLOWN_UP, BLOWN_UP_LOSSES, REACH_KNOWN, RISING_ORDER
from stepsize.diagnosis.units import in_unit, unit_of
from stepsize.diagnosis.validations import MOST, ROUNDING

BLOCKS = 20  # levels of a run: means over so many blocks
LATE_BLOCKS = 10  # levels of its last half
FLAT = 1.6  # levels that scatter by less than so many of their errors are all one
IDLE = 1e-6  # of the highest rate: a rate that counts as 0
START_PATH = 0.05  # the first losses are one level until the weights moved by so many lengths
FIRST_STEPS = 5  # whose median is the first update ratio
LONGEST_STEP = 1e3  # update ratios count as at most this
FEWEST_RATIOS, FEWEST_NORMS = 9, 9
VANISHED = 1e-6  # of the largest gradient norm: a gradient that counts as none
RISING_VALIDATION = 0.1  # a validation loss that rose more tells nothing of the training's trend
LEAST_Z, LEAST_ERROR = 1e-3, 1e-9  # trends and errors count as at least this, to be divided by
FLAT_VALIDATION = 0.05  # noise of one loss: a validation loss that ends so far above has moved
FALLING_VALIDATION_Z = 5  # z: one that falls so surely is slow, and not flat by chance
USUAL_FIRST = 0.05  # share of losses below the first one that makes it one of them
# Blocks over which the shape of the decay is fitted: the last three quarters of so many.
SHAPE_BLOCKS, FEWEST_SHAPE_BLOCKS = 12, 5
# Exponents of decays that a loss may follow, time counted in runs.
EXPONENTIALS = (-1, -2, -4, -8, -16)
POWERS = (-0.5, -1, -2)


def _broke(loss: Curve, grads: Curve, val: Curve) -> int | None:
    """The row where loss or gradient stopped being finite, or None.

    Rows count where nothing finite follows: a run that recovered is not broken. NaN also means that
    a row has no value, so a row that only holds another series does not count.
    """
    finite = np.flatnonzero(np.isfinite(loss))
    for row in range(int(finite[-1]) + 1 if len(finite) else 0, len(loss)):
        other = row < len(val) and np.isfinite(val[row])
        if np.isinf(loss[row]) or not other:
            return row
    lost = np.flatnonzero(np.isinf(grads))
    return int(lost[0]) if len(lost) else None


def _extrapolated(curve: Curve) -> float:
    """How much the curve would fall if it went on for as long again.

    A mean over decays of several shapes, each as likely as it fits the last three quarters.
    """
    levels = block_means(curve, SHAPE_BLOCKS)[SHAPE_BLOCKS // 4 :]
    if len(levels) < FEWEST_SHAPE_BLOCKS:
        return 0.0
    # The middles of the blocks, the end of the run, and the end of one twice as long.
    middles = 1 - (np.arange(len(levels))[::-1] + 0.5) / SHAPE_BLOCKS
    at = np.append(middles, (1.0, 2.0))
    shapes = np.vstack([-at, np.exp(np.outer(EXPONENTIALS, at)), np.power.outer(at, POWERS).T])
    inner = shapes[:, :-2] - shapes[:, :-2].mean(axis=1, keepdims=True)
    slopes = inner @ levels / np.sum(inner**2, axis=1)
    rest = levels - levels.mean() - slopes[:, None] * inner
    misfit = np.sum(rest**2, axis=1) + TINY
    likely = (misfit.min() / misfit) ** (len(levels) / 2)
    gains = slopes * (shapes[:, -2] - shapes[:, -1])
    return float(likely @ gains / likely.sum())


def _forecast(curve: Curve, extrapolated: float) -> float:
    """The decrease in as many steps again, if the last two decreases shrink on as they did.

    Of four quarters the second to third and the third to fourth: each of the next four is smaller
    than the one before by their ratio, as far as that is below 1.
    """
    quarters = block_means(curve, 4)
    if len(quarters) < 4:
        return max(extrapolated, 0.0)
    before, last = float(quarters[1] - quarters[2]), float(quarters[2] - quarters[3])
    ratio = min(last / before, 1.0) if before > 0 else 1.0
    ahead = last * sum(ratio**k for k in range(1, 5)) if last > 0 else 0.0
    return max(min(extrapolated, ahead), 0.0)


def _slowing(curve: Curve) -> float:
    """The fall within the last quarter over that within the second, NaN where that did not fall."""
    if len(curve) < BLOCKS:
        return math.nan
    quarters = [linear_trend(block_means(part, 5))[0] for part in np.array_split(curve, 4)]
    return quarters[3] / quarters[1] if quarters[1] > 0 else math.nan


def _start(loss: Curve, ratios: Curve) -> tuple[float, int]:
    """Mean of the first losses, for as long as the weights hardly moved, and their number."""
    moved = np.cumsum(np.where(np.isfinite(ratios), ratios, np.inf))[: len(loss)]
    count = min(int(np.searchsorted(moved, START_PATH)) + 1, len(loss) // BLOCKS)
    count = max(1, count)
    return float(loss[:count].mean()), count


def _levels(loss: Curve, blocks: Curve, start: float, first: int, noise: float) -> Levels:
    """`start` is the mean of the `first` losses, `noise` the deviation of one."""
    best, end = min(float(blocks.min()), start), float(blocks[-1])
    width = math.sqrt(max(1, len(loss) // BLOCKS))
    decrease = max(start - best, noise / width, ROUNDING * abs(start), TINY)
    error = noise * math.hypot(1 / width, 1 / math.sqrt(first))
    room = max(start - float(loss.min()), ROUNDING * abs(start), TINY)
    return Levels(
        start=start,
        end=end,
        best=best,
        best_at=float(blocks.argmin() + 0.5) / len(blocks) if best < start else 0.0,
        highest=float(blocks.max()),
        highest_at=float(blocks.argmax() + 0.5) / len(blocks),
        decrease=decrease,
        decrease_z=(start - end) / (error + TINY),
        peak=(float(blocks.max()) - start) / decrease,
        rise=(end - start) / room,
        late_above_start=float(np.quantile(loss[3 * len(loss) // 4 :], 0.1)) > start,
        runs_away=_runs_away(loss),
    )


def _runs_away(loss: Curve) -> bool:
    half = loss[: (len(loss) + 1) // 2]
    if loss[-1] - loss[0] <= 0:
        return False
    ranks = loss.argsort(kind="stable").argsort()
    order = float(np.corrcoef(ranks, np.arange(len(loss)))[0, 1])
    blown_up = loss[-1] == loss.max() and loss[-1] - loss[0] > BLOWN_UP * np.ptp(half)
    return order >= RISING_ORDER or (bool(blown_up) and len(loss) >= BLOWN_UP_LOSSES)


def _combined(
    decrease: float, z: float, validation: ValidationFeatures | None
) -> tuple[float, float]:
    """Two measurements of one trend, weighted by their errors; a rising validation is another."""
    v = validation
    if v is None or math.isnan(v.late_decrease) or v.own_rise >= RISING_VALIDATION:
        return decrease, z
    a = abs(decrease) / max(abs(z), LEAST_Z) + LEAST_ERROR
    b = abs(v.late_decrease) / max(abs(v.late_decrease_z), LEAST_Z) + LEAST_ERROR
    both = (decrease / a**2 + v.late_decrease / b**2) / (a**-2 + b**-2)
    return both, both * math.sqrt(a**-2 + b**-2)


def _gradients(grads: Curve) -> tuple[float, float, bool]:
    """Norm at the end over that at the start, jitter of its logarithm, and whether it vanished."""
    seen = grads[np.isfinite(grads)]
    end = seen[-max(1, len(seen) // 10) :]
    vanished = len(seen) > 0 and float(end.max()) <= VANISHED * float(seen.max()) > 0
    known = seen[seen > 0]
    if len(known) < FEWEST_NORMS:
        return math.nan, math.nan, vanished
    tenth = max(1, len(known) // 10)
    ratio = float(np.median(known[-tenth:]) / np.median(known[:tenth]))
    return ratio, difference_noise(np.log(known[len(known) // 2 :])), vanished


def _first_update_ratio(ratios: Curve) -> float:
    first = ratios[~np.isnan(ratios)][:FIRST_STEPS]
    known = first[np.isfinite(first)]
    return float(np.median(known)) if len(known) and known[0] == first[0] else math.nan


def _relative_path(ratios: Curve, rows: int, per_row: float) -> float:
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    if len(known) < FEWEST_RATIOS:
        return math.nan
    return float(np.minimum(known, LONGEST_STEP).mean()) * rows * per_row


def _steps_per_row(steps: Curve) -> float:
    steps = steps[np.isfinite(steps)]
    return max(1.0, float(np.median(np.diff(steps)))) if len(steps) > 1 else 1.0


def _late(curve: Curve) -> float:
    """The median of the last quarter, where there is one."""
    known = curve[3 * len(curve) // 4 :]
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else math.nan


def _flat(
    loss: Curve,
    blocks: Curve,
    noise: float,
    validation: ValidationFeatures | None,
    decrease: float,
) -> bool:
    """Whether the loss never moved beyond its noise; a validation loss, free of it, knows best."""
    v = validation
    if v is not None and v.above_start and v.end - v.best > FLAT_VALIDATION * noise:
        return False
    if v is not None and v.decrease * decrease < noise and v.late_decrease_z > FALLING_VALIDATION_Z:
        return True
    return (
        len(loss) >= BLOCKS
        and float(blocks.std()) < FLAT * noise / math.sqrt(len(loss) // BLOCKS)
        and float(blocks.mean()) - float(loss[0]) < noise
        and USUAL_FIRST < float(np.mean(loss < loss[0])) < 1 - USUAL_FIRST
    )


def _idle(lrs: Curve) -> tuple[float, float]:
    """The share of the rows at a rate of 0, and where the last such part began."""
    known = np.flatnonzero(np.isfinite(lrs))
    if not len(known):
        return 0.0, 1.0
    rates = np.abs(lrs[known])
    idle = rates <= IDLE * rates.max()
    moving = known[~idle]
    start = (int(moving[-1]) + 1) / len(lrs) if len(moving) else 0.0
    return float(idle.mean()), start


def _moving(history: Any) -> float:
    """The norm of the weights that have a gradient as a share of that of all, by what `fit` saw.

    Weights without one have no part in how far the others moved; 1 where none is known of.
    """
    meta = getattr(history, "meta", None)
    share = meta.get("moving") if isinstance(meta, Mapping) else None
    return float(share) if isinstance(share, float) and 0 < share <= 1 else 1.0


def _reach(columns: dict[str, Curve], per_row: float, unit: float) -> tuple[float, float]:
    """Gradient norm times update norm: of all steps together, and of one late in the run."""
    with np.errstate(invalid="ignore", over="ignore"):
        each = columns["grad_norm"] * columns["update_ratio"] * columns["param_norm"] / unit
    known = np.isfinite(each)
    if known.mean() < REACH_KNOWN:
        return math.nan, math.nan
    return float(each[known].sum()) * per_row, _late(np.where(known, each, np.nan))


def _movement(columns: dict[str, Curve], per_row: float, moving: float, unit: float) -> Movement:
    lrs, ratios, norms = columns["lr"], columns["update_ratio"] / moving, columns["grad_norm"]
    gradient_ratio, _, vanished = _gradients(norms)
    idle, idle_from = _idle(lrs)
    reach, late_reach = _reach(columns, per_row, unit)
    known = lrs[np.isfinite(lrs)]
    highest = float(known.max()) if len(known) else math.nan
    return Movement(
        relative_path=_relative_path(ratios, len(lrs), per_row),
        first_update_ratio=_first_update_ratio(ratios),
        gradient_ratio=gradient_ratio,
        gradient_vanished=vanished,
        sign_flip_rate=_late(columns["sign_flips"]),
        lr_times_sharpness=_late(columns["sharpness"] * lrs),
        lr=highest,
        last_rate=float(abs(known[-1]) / highest) if highest > 0 else 1.0,
        idle=idle,
        idle_from=idle_from,
        moving=moving,
        no_gradient=bool(np.fmax.reduce(norms, initial=-1.0) == 0),
        reach=reach,
        late_reach=late_reach,
    )


def _trend(
    loss: Curve,
    blocks: Curve,
    levels: Levels,
    noise: float,
    validation: ValidationFeatures | None,
    path_known: bool,
    per_row: float,
) -> tuple[Trend, float]:
    """The trend, and the jitter around it where no validation loss tells of it."""
    half, unit = loss[len(loss) // 2 :], levels.decrease
    fall, z, rest = linear_trend(block_means(half, LATE_BLOCKS))
    late_decrease, late_z = _combined(fall / unit, z, validation)
    rebound, width = levels.end - levels.best, math.sqrt(max(1, len(loss) // BLOCKS))
    # What means over so many batches scatter by is not the weights'.
    jitter = math.sqrt(max(rest**2 - noise**2 * LATE_BLOCKS / len(half), 0.0)) / unit
    extrapolated, slope = _extrapolated(loss), fall / unit / (len(half) * per_row)
    trend = Trend(
        late_decrease=late_decrease,
        late_decrease_z=late_z,
        extrapolated_decrease=extrapolated / unit,
        # Twice the last half, of which the validation knows too, is the most of a slowing fall.
        forecast=min(_forecast(loss, extrapolated) / unit, 2 * max(late_decrease, 0.0)),
        slope=slope,
        slowing=_slowing(loss),
        slope_error=abs(slope) / max(abs(z), LEAST_Z),
        rebound=rebound / unit,
        rebound_z=rebound * width / (noise * math.sqrt(2) + TINY),
        flat=not path_known and _flat(loss, blocks, noise, validation, unit),
    )
    return trend, jitter


def measure(history: Any, columns_read: dict[str, Curve] | None = None) -> CurveFeatures:
    """Every feature of a history with a loss in it; its series where they have been read."""
    given = read(history) if columns_read is None else columns_read
    rows = len(given["loss"])
    missing = np.full(rows, np.nan)
    columns = {name: given.get(name, missing) for name in SERIES}
    unit = unit_of(columns["loss"])
    for name in ("loss", "val_loss") if unit != 1 else ():
        columns[name] = columns[name] / unit
    raw, steps, ratios = columns["loss"], columns["step"], columns["update_ratio"]
    broke_at = _broke(raw, columns["grad_norm"], columns["val_loss"])
    if validations.all_skipped(history, rows):
        broke_at = 0
    loss = raw[:broke_at][np.isfinite(raw[:broke_at])]
    loss = np.clip(loss, -MOST, MOST) if len(loss) else np.zeros(1)
    per_row, moving = _steps_per_row(steps), _moving(history)
    blocks, noise = block_means(loss, BLOCKS), mad_noise(loss[len(loss) // 2 :])
    levels = _levels(loss, blocks, *_start(loss, ratios / moving * per_row), noise)
    validation = validations.features("val_loss", columns["val_loss"], blocks, levels.decrease)
    averaged = validations.lagging_average(history, validation)
    heard = None if averaged else validation
    path_known, stop = bool(np.isfinite(ratios).any()), validations.early_stopping(history)
    trend, jitter = _trend(loss, blocks, levels, noise, heard, path_known, per_row)
    if heard is not None and heard.jitter >= 0:
        jitter = heard.jitter
    low, high = (float(q) for q in np.quantile(loss[3 * len(loss) // 4 :], (0.1, 0.9)))
    swing = (high - low) / levels.decrease
    row = math.nan if broke_at is None else steps[broke_at]
    measured = CurveFeatures(
        rows=rows,
        steps=len(loss),
        broke_at=broke_at,
        broke_step=int(row) if math.isfinite(row) else broke_at,
        levels=levels,
        trend=trend,
        noise=Noise(swing, jitter, _gradients(columns["grad_norm"])[1]),
        movement=_movement(columns, per_row, moving, levels.decrease * unit),
        validation=heard,
        metric=validations.metric(given, blocks, levels.decrease, stop.metric if stop else None),
        few=validations.few(columns["val_loss"], blocks),
        averaged=averaged,
        averaged_validation=validation if averaged else None,
        stop=stop,
    )
    return measured if unit == 1 else in_unit(measured, unit)
