"""What the curves of a run show: levels, trends, noise and jitter, each with its error.

Losses are taken relative to their whole decrease, so neither scale nor sign matters. Where a number
could be chance, its distance from nothing is given in standard errors too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsize.arrays import Curve

LEVELS = 20  # a run is looked at in so many pieces
FLAT = 1.6  # levels that scatter by less than so many of their errors are all one
TINY = 1e-300
# Exponents of decays that a loss may follow, time counted in runs.
EXPONENTIALS = (-1, -2, -4, -8, -16)
POWERS = (-0.5, -1, -2)


@dataclass(frozen=True)
class Held:
    """The validation loss. It is over all of its data, so what it jitters by is the weights'.

    `rise` above the `low` it had at `when`, `fall` over the last half, `jitter` around that trend
    and `jump` at the first look are in units of its own decrease, `rise_sure` and `fall_sure` in
    standard errors; `since` is the share of the training loss's decrease that came after `when`.
    """

    low: float
    end: float
    when: float
    rise: float
    rise_sure: float
    fall: float
    fall_sure: float
    jitter: float
    jump: float
    since: float
    above_start: bool


@dataclass(frozen=True)
class Signals:
    """What every check looks at: `steps` losses in `rows` rows of the history.

    `start`, `end`, `best`, `top`, `drop` and `noise` are in the unit of the loss; `drop` is at
    least what noise alone would make. Shares of `drop`: `fall` over the last half, what is `coming`
    in as many steps again by the shape of the decay, `lost` since the best level, `peak` of the
    levels above the start, `swing` (from the tenth to the ninetieth percentile of the last
    quarter), `jitter` around the trend. `above` is the rise of the end above the start as a share
    of how far any single loss went below it. `best_at` and `top_at` are places in the run from 0 to
    1. `travel` is the way the weights went, in their own lengths; where it is
    not known, a loss is `flat` when it never moved beyond its noise. `stride` is the length of the
    first steps, in the same unit; NaN where weights began at zero and the unit says nothing.
    `flips` is the share of gradient signs that change from step to step, `edge` the rate times the
    sharpness, both late in the run.
    """

    rows: int
    steps: int
    broke_at: int | None
    start: float
    end: float
    best: float
    best_at: float
    top: float
    top_at: float
    drop: float
    noise: float
    fell_sure: float
    fall: float
    fall_sure: float
    coming: float
    lost: float
    lost_sure: float
    peak: float
    swing: float
    jitter: float
    above: float
    quantile_above: bool
    flat: bool
    travel: float
    stride: float
    grad_change: float
    grad_jitter: float
    still: bool
    flips: float
    edge: float
    lr: float
    held: Held | None

    @property
    def share(self) -> float:
        """The end as a share of the start, NaN where the loss may not have its floor at 0."""
        share = self.end / self.start if self.start > 0 else 0.0
        # Nearly the start: as likely a loss with a constant in it, of which nothing follows.
        return share if 0 <= share <= 0.95 else math.nan

    @property
    def left(self) -> float:
        """The same, a middling number where it is not known."""
        return 0.2 if math.isnan(self.share) else self.share


def series(history: Mapping[str, Any], name: str, rows: int = 0) -> Curve:
    """A series of the history as float64; all NaN when it is missing."""
    if name in history:
        return np.asarray(history[name], np.float64).reshape(-1)
    return np.full(rows, np.nan)


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


def _blocks(curve: Curve, count: int) -> Curve:
    return np.array([b.mean() for b in np.array_split(curve, min(count, len(curve)))])


def _trend(levels: Curve) -> tuple[float, float, float]:
    """How much a row of levels falls along a line, that in standard errors, and what is left."""
    count = len(levels)
    if count < 4:
        return 0.0, 0.0, 0.0
    x = np.arange(count) - (count - 1) / 2
    slope = float(x @ levels / (x @ x))
    rest = levels - levels.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (count - 2) / float(x @ x))
    tiny = 1e-12 * (abs(float(levels.mean())) / count + abs(slope)) + TINY
    return -slope * count, -slope / (error + tiny), float(rest.std())


def _coming(curve: Curve) -> float:
    """How much the curve would fall if it went on for as long again.

    A mean over decays of several shapes, each as likely as it fits the last three quarters.
    """
    count = 12
    levels = _blocks(curve, count)[count // 4 :]
    if len(levels) < 5:
        return 0.0
    # The middles of the pieces, the end of the run, and the end of one twice as long.
    at = np.append(1 - (np.arange(len(levels))[::-1] + 0.5) / count, (1.0, 2.0))
    shapes = np.vstack([-at, np.exp(np.outer(EXPONENTIALS, at)), np.power.outer(at, POWERS).T])
    inner = shapes[:, :-2] - shapes[:, :-2].mean(axis=1, keepdims=True)
    slopes = inner @ levels / np.sum(inner**2, axis=1)
    rest = levels - levels.mean() - slopes[:, None] * inner
    misfit = np.sum(rest**2, axis=1) + TINY
    likely = (misfit.min() / misfit) ** (len(levels) / 2)
    gains = slopes * (shapes[:, -2] - shapes[:, -1])
    return float(likely @ gains / likely.sum())


def _noise(curve: Curve) -> float:
    """Standard deviation of one value around a smooth curve, deaf to outliers."""
    if len(curve) < 3:
        return 0.0
    return 1.4826 * float(np.median(np.abs(np.diff(curve)))) / math.sqrt(2)


def _start(loss: Curve, ratios: Curve) -> tuple[float, int]:
    """Mean of the first losses, as long as the weights have moved by less than a twentieth."""
    moved = np.cumsum(np.where(np.isfinite(ratios), ratios, np.inf))[: len(loss)]
    count = min(int(np.searchsorted(moved, 0.05)) + 1, len(loss) // LEVELS)
    count = max(1, count)
    return float(loss[:count].mean()), count


def _held(val: Curve, rows: int, levels: Curve, drop: float) -> Held | None:
    when = np.flatnonzero(np.isfinite(val))
    v = np.clip(val[when], -1e100, 1e100)
    if len(v) < 5:
        return None
    # Means of neighbours, so that one lucky moment does not count as the best.
    level = (v[1:] + v[:-1]) / 2
    best = int(np.argmin(level))
    gain = max(float(v[0] - level[best]), 1e-12 * abs(float(v[0])), TINY)
    late = v[len(v) // 2 :]
    bend = np.abs(np.diff(late, 2))
    noise = 1.4826 * float(np.median(bend)) / math.sqrt(6) if len(bend) else 0.0
    # A line through fewer has no error to speak of.
    fall, sure, rest = _trend(late) if len(late) > 4 else (math.nan,) * 3
    middle = (when[best] + when[best + 1]) / 2 / rows
    at = min(int(middle * len(levels)), len(levels) - 1)
    rise = float(level[-1] - level[best])
    return Held(
        low=float(level[best]),
        end=float(level[-1]),
        when=float(when[best + int(v[best + 1] < v[best])]) / rows,
        rise=rise / gain,
        rise_sure=rise / (noise + TINY),
        fall=fall / gain,
        fall_sure=sure,
        jitter=rest / max(gain, 0.3 * drop),  # a validation loss that never fell has no unit
        jump=gain / drop,
        since=float(levels[at] - levels[-1]) / drop,
        above_start=bool(level[-1] > v[0]),
    )


def _together(fall: float, sure: float, held: Held | None) -> tuple[float, float]:
    """Two measurements of one trend, weighed by their errors; a rising validation is another."""
    if held is None or math.isnan(held.fall) or held.rise >= 0.1:
        return fall, sure
    a = abs(fall) / max(abs(sure), 1e-3) + 1e-9
    b = abs(held.fall) / max(abs(held.fall_sure), 1e-3) + 1e-9
    both = (fall / a**2 + held.fall / b**2) / (a**-2 + b**-2)
    return both, both * math.sqrt(a**-2 + b**-2)


def _gradients(grads: Curve) -> tuple[float, float, bool]:
    """Norm at the end over that at the start, jitter of its logarithm, and whether it vanished."""
    seen = grads[np.isfinite(grads)]
    end = seen[-max(1, len(seen) // 10) :]
    still = len(seen) > 0 and float(end.max()) <= 1e-6 * float(seen.max())
    known = seen[seen > 0]
    if len(known) < 9:
        return math.nan, math.nan, still
    tenth = max(1, len(known) // 10)
    change = float(np.median(known[-tenth:]) / np.median(known[:tenth]))
    jitter = float(np.std(np.diff(np.log(known[len(known) // 2 :])))) / math.sqrt(2)
    return change, jitter, still


def _stride(ratios: Curve) -> float:
    """The median of the first few update ratios."""
    first = ratios[~np.isnan(ratios)][:5]
    known = first[np.isfinite(first)]
    return float(np.median(known)) if len(known) and known[0] == first[0] else math.nan


def _apart(history: Mapping[str, Any]) -> float:
    """How many steps of the run lie between two rows."""
    steps = series(history, "step")
    steps = steps[np.isfinite(steps)]
    return max(1.0, float(np.median(np.diff(steps)))) if len(steps) > 1 else 1.0


def _late(curve: Curve) -> float:
    """The median of the last quarter, where there is one."""
    known = curve[3 * len(curve) // 4 :]
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else math.nan


def _flat(loss: Curve, levels: Curve, noise: float, held: Held | None, drop: float) -> bool:
    """Whether the loss never moved beyond its noise; a validation loss, free of it, knows best."""
    if held is not None and held.above_start and held.end - held.low > 0.05 * noise:
        return False
    if held is not None and held.jump * drop < noise and held.fall_sure > 5:
        return True
    return (
        len(loss) >= LEVELS
        and float(levels.std()) < FLAT * noise / math.sqrt(len(loss) // LEVELS)
        and float(levels.mean()) - float(loss[0]) < noise
        and 0.05 < float(np.mean(loss < loss[0])) < 0.95
    )


def measure(history: Mapping[str, Any]) -> Signals:
    """Every signal of a history with a loss in it."""
    raw = series(history, "loss")
    rows = len(raw)
    grads, ratios = series(history, "grad_norm", rows), series(history, "update_ratio", rows)
    val, lrs = series(history, "val_loss", rows), series(history, "lr", rows)
    broke = _broke(raw, grads, val)
    loss = raw[:broke][np.isfinite(raw[:broke])]
    # Squares of a loss on its way to infinity must stay finite.
    loss = np.clip(loss, -1e100, 1e100) if len(loss) else np.zeros(1)
    apart = _apart(history)
    start, first = _start(loss, ratios * apart)
    levels = _blocks(loss, LEVELS)
    best, end = min(float(levels.min()), start), float(levels[-1])
    half, last = loss[len(loss) // 2 :], loss[3 * len(loss) // 4 :]
    noise, width = _noise(half), math.sqrt(max(1, len(loss) // LEVELS))
    drop = max(start - best, noise / width, 1e-12 * abs(start), TINY)
    fall, sure, rest = _trend(_blocks(half, 10))
    # What means over so many batches scatter by is not the weights'.
    jitter = math.sqrt(max(rest**2 - noise**2 * 10 / len(half), 0.0))
    held = _held(val, max(rows, 1), levels, drop)
    both, both_sure = _together(fall / drop, sure, held)
    change, grad_jitter, still = _gradients(grads)
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    room = max(start - float(loss.min()), 1e-12 * abs(start), TINY)
    low, high = (float(q) for q in np.quantile(last, (0.1, 0.9)))
    return Signals(
        rows=rows,
        steps=len(loss),
        broke_at=broke,
        start=start,
        end=end,
        best=best,
        best_at=float(levels.argmin() + 0.5) / len(levels) if best < start else 0.0,
        top=float(levels.max()),
        top_at=float(levels.argmax() + 0.5) / len(levels),
        drop=drop,
        noise=noise,
        fell_sure=(start - end) / (noise * math.hypot(1 / width, 1 / math.sqrt(first)) + TINY),
        fall=both,
        fall_sure=both_sure,
        coming=_coming(loss) / drop,
        lost=(end - best) / drop,
        lost_sure=(end - best) * width / (noise * math.sqrt(2) + TINY),
        peak=(float(levels.max()) - start) / drop,
        swing=(high - low) / drop,
        jitter=held.jitter if held and held.jitter >= 0 else jitter / drop,
        above=(end - start) / room,
        quantile_above=low > start,
        flat=not np.isfinite(ratios).any() and _flat(loss, levels, noise, held, drop),
        travel=float(np.minimum(known, 1e3).mean()) * rows * apart if len(known) > 8 else math.nan,
        stride=_stride(ratios),
        grad_change=change,
        grad_jitter=grad_jitter,
        still=still,
        flips=_late(series(history, "sign_flips", rows)),
        edge=_late(series(history, "sharpness", rows) * lrs),
        lr=float(lrs[np.isfinite(lrs)].max()) if np.isfinite(lrs).any() else math.nan,
        held=held,
    )
