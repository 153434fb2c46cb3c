"""Say what is wrong with a training run, from the curves it left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

VERDICTS = (
    "diverging",
    "too_high",
    "healthy",
    "too_low",
    "plateau",
    "converged",
    "overfitting",
    "underfitting",
)
FEWEST_STEPS = 20


@dataclass(frozen=True)
class Finding:
    """One observation: what it points to, how bad it is, the numbers, and what to do.

    `severity` is "info", "warning" or "critical".
    """

    kind: str
    severity: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.evidence[:1].upper()}{self.evidence[1:]}. {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """A verdict on a run, the findings behind it, and a rate to try next if one follows.

    `verdict` is one of "diverging", "too_high", "healthy", "too_low", "plateau", "converged",
    "overfitting", "underfitting". `suggested_lr` is None when the rate is not the trouble.
    """

    verdict: str
    findings: tuple[Finding, ...]
    suggested_lr: float | None
    enough_data: bool = True

    def __str__(self) -> str:
        lead = {
            "diverging": "This run is diverging.",
            "too_high": "The learning rate is too high.",
            "healthy": "This run is healthy.",
            "too_low": "The learning rate is too low.",
            "plateau": "This run is on a plateau.",
            "converged": "This run has converged.",
            "overfitting": "This run is overfitting.",
            "underfitting": "This run is underfitting.",
        }[self.verdict]
        if not self.enough_data:
            lead = "There is not enough data for a verdict."
        parts = [lead, *map(str, self.findings[:1])]
        parts += [f"Another signal points to {f.kind}: {f}" for f in self.findings[1:]]
        if self.suggested_lr is not None:
            parts.append(f"Try lr={self.suggested_lr:.1e} next.")
        return " ".join(parts)


@dataclass(frozen=True)
class _Facts:
    """What every check looks at; losses in the unit of the loss, shares of the whole decrease.

    `travel` is the way the weights went, in their own lengths, had every step been like the first.
    """

    steps: int
    broke_at: int | None
    start: float
    best: float
    end: float
    top: float
    noise: float
    drop: float
    early: float
    halfway: float
    late_fall: float
    late_sigma: float
    swing: float
    spread: float
    late_low: float
    grad_left: float
    lr: float
    grad_change: float
    grad_jitter: float
    update_ratio: float
    travel: float
    val: Curve
    val_when: Curve
    levels: Curve

    def level_at(self, when: float) -> float:
        """The training loss around a share of the run."""
        return float(self.levels[min(int(when * len(self.levels)), len(self.levels) - 1)])

    @property
    def still_falling(self) -> float:
        """The share of the decrease made in the last half; 0 where noise could have made it."""
        if self.late_sigma < 3 or self.late_fall <= 0 or self.drop <= 0:
            return 0.0
        return self.late_fall / self.drop


def _series(history: Mapping[str, Any], name: str, rows: int | None = None) -> Curve:
    """A series of the history as float64; all NaN when it is missing."""
    if name in history:
        return np.asarray(history[name], np.float64).reshape(-1)
    return np.full(rows or 0, np.nan)


def _broke(loss: Curve, others: list[Curve]) -> int | None:
    """The row where the loss stopped being finite, or None.

    Rows count where nothing finite follows: a run that recovered is not broken. NaN also means that
    a row has no value, so a row that only holds another series does not count.
    """
    finite = np.flatnonzero(np.isfinite(loss))
    for row in range(int(finite[-1]) + 1 if len(finite) else 0, len(loss)):
        other = any(row < len(s) and np.isfinite(s[row]) for s in others)
        if np.isinf(loss[row]) or not other:
            return row
    return None


def _blocks(curve: Curve, count: int) -> Curve:
    return np.array([b.mean() for b in np.array_split(curve, min(count, len(curve)))])


def _late_trend(loss: Curve) -> tuple[float, float]:
    """How much the loss fell over the last half, and that in standard errors of block means."""
    levels = _blocks(loss[len(loss) // 2 :], 10)
    if len(levels) < 4:
        return 0.0, 0.0
    x = np.arange(len(levels)) - (len(levels) - 1) / 2
    slope = float(x @ levels / (x @ x))
    rest = levels - levels.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (len(levels) - 2) / float(x @ x))
    fall = -slope * len(levels)
    tiny = 1e-12 * (abs(float(levels.mean())) + abs(fall)) + 1e-300
    return fall, -slope / (error + tiny)


def _pace(loss: Curve, start: float, end: float, drop: float) -> tuple[float, float]:
    """The share of the decrease made in the first tenth, and of the run when half was made."""
    width = max(1, min(len(loss) // 20, 25))
    smooth = np.convolve(loss, np.full(width, 1 / width), mode="valid")
    reached = np.flatnonzero(smooth <= (start + end) / 2)
    halfway = float(reached[0] + (width - 1) / 2) / len(loss) if len(reached) else 1.0
    tenth = float(smooth[min(len(loss) // 10, len(smooth) - 1)])
    return (start - tenth) / (drop + 1e-300), halfway


def _middle(curve: Curve) -> float:
    kept = curve[np.isfinite(curve)]
    return float(np.median(kept)) if len(kept) else math.nan


def _gradients(grads: Curve) -> tuple[float, float]:
    """Gradient norm at the end over that at the start, and its jitter: deviation of its log."""
    known = grads[np.isfinite(grads) & (grads > 0)]
    if len(known) < 4:
        return math.nan, math.nan
    tenth = max(1, len(known) // 10)
    change = _middle(known[-tenth:]) / _middle(known[:tenth])
    return change, float(np.std(np.log(known[len(known) // 2 :])))


def _grad_left(grads: Curve) -> float:
    """The gradient norm at the end as a share of its highest."""
    known = grads[np.isfinite(grads)]
    if not len(known):
        return math.nan
    return _middle(known[-max(1, len(known) // 10) :]) / (float(known.max()) + 1e-300)


def _facts(history: Mapping[str, Any]) -> _Facts:
    raw = _series(history, "loss")
    rows = len(raw)
    grads, ratios = _series(history, "grad_norm", rows), _series(history, "update_ratio", rows)
    val, lrs = _series(history, "val_loss", rows), _series(history, "lr", rows)
    broke = _broke(raw, [val])
    if broke is None and np.isinf(grads).any():
        broke = int(np.flatnonzero(np.isinf(grads))[0])
    loss = raw[:broke][np.isfinite(raw[:broke])]
    # Squares of a loss on its way to infinity must stay finite.
    loss = np.clip(loss, -1e100, 1e100) if len(loss) else np.zeros(1)
    start = float(loss[0])  # a rate that is far too high has spoilt the second loss already
    levels = _blocks(loss, 20)
    best, end = min(float(levels.min()), start), float(levels[-1])
    half = loss[len(loss) // 2 :]
    noise = 1.4826 * _middle(np.abs(np.diff(half))) / math.sqrt(2) if len(half) > 2 else 0.0
    fall, sigma = _late_trend(loss)
    early, halfway = _pace(loss, start, end, start - best)
    change, jitter = _gradients(grads)
    when = np.flatnonzero(np.isfinite(val))
    return _Facts(
        steps=len(loss),
        broke_at=broke,
        start=start,
        best=best,
        end=end,
        top=float(loss.max()),
        noise=noise,
        drop=start - best,
        early=early,
        halfway=halfway,
        late_fall=fall,
        late_sigma=sigma,
        swing=float(np.std(half - np.linspace(fall / 2, -fall / 2, len(half)))),
        spread=float(np.subtract(*np.quantile(half, (0.9, 0.1)))),
        late_low=float(np.quantile(half[len(half) // 2 :], 0.1)),
        grad_left=_grad_left(grads),
        lr=float(lrs[np.isfinite(lrs)].max()) if np.isfinite(lrs).any() else math.nan,
        grad_change=change,
        grad_jitter=jitter,
        update_ratio=_middle(ratios),
        travel=_middle(ratios[: max(5, rows // 20)]) * rows,
        val=val[when],
        val_when=when / max(rows, 1),
        levels=levels,
    )


def _diverging(f: _Facts) -> Finding | None:
    advice = "Lower the rate by ten, or find one with lr_find; warm-up and clip_norm help too."
    if f.broke_at is not None:
        what = f"the loss or the gradient stopped being finite at step {f.broke_at}"
        return Finding("diverging", "critical", what, advice)
    room = 0.0 if f.late_low > f.start else f.noise / math.sqrt(f.steps / 20)
    if f.end - f.start > max(room, 0.1 * f.drop) and not f.travel < 0.5:
        what = f"the loss ended at {f.end:.3g}, above its start of {f.start:.3g}"
        return Finding("diverging", "critical", what, advice)
    return None


def _too_high(f: _Facts) -> Finding | None:
    signs = []
    settled = max(f.drop, 1e-300)
    rise = f.top - f.start
    unsettled = f.spread > 0.19 * settled
    lasting = unsettled or f.still_falling > 0.06
    early = f.early < -0.05 and not f.grad_jitter < 0.3
    if lasting and rise > 6 * f.noise and (early or rise > 8 * settled):
        signs.append(f"the loss rose to {f.top:.3g} from a start of {f.start:.3g} before it fell")
    lost = f.end - f.best > max(0.1 * settled, 4 * f.noise / math.sqrt(f.steps / 20))
    if lost and not f.travel < 0.5:
        signs.append(f"the loss ended at {f.end:.3g} after a best level of {f.best:.3g}")
    rough = not f.grad_jitter < 0.3 or f.spread > 1.5 * settled
    bouncing = unsettled and rough and f.end - f.best > 0.04 * settled
    if bouncing and f.still_falling < 0.1 and not f.travel < 1:
        signs.append(f"the loss swings by {f.spread:.2g} without falling")
    if f.grad_left < 1e-6 and f.end > 0.5 * f.start > 0:
        signs.append(f"the gradient vanished with the loss still at {f.end:.3g}, as if units died")
    if not signs:
        return None
    advice = "Steps overshoot the valley: lower the rate, or decay it."
    return Finding("too_high", "warning", ", ".join(signs), advice)


def _too_low(f: _Facts) -> Finding | None:
    advice = "Every step goes the right way but is too short: raise the rate."
    signs = []
    if f.still_falling > 0.12 and not f.grad_jitter > 0.8:
        signs.append(
            f"the loss is still falling ({f.start:.3g} to {f.end:.3g}), "
            f"{f.still_falling:.0%} of that in the last half of the run"
        )
    if f.travel < 1:
        signs.append(f"the weights travel only {f.travel:.2g} times their own length in this run")
        if not signs[:-1] and f.still_falling < 0.02 and f.drop > 6 * f.noise:
            return None
    if not signs:
        return None
    if f.grad_change > 0.7:
        signs.append(f"the gradient norm is still {f.grad_change:.0%} of what it was")
    return Finding("too_low", "warning", ", ".join(signs), advice)


def _overfitting(f: _Facts) -> Finding | None:
    if len(f.val) < 4 or f.end >= f.start:
        return None
    # Means of neighbours, so that one lucky moment does not count as the best.
    level = (f.val[1:] + f.val[:-1]) / 2
    best = int(np.argmin(level))
    low, end = float(level[best]), float(level[-1])
    when = f.val_when[best + int(f.val[best + 1] < f.val[best])]
    noise = 1.4826 * float(np.median(np.abs(np.diff(f.val[len(f.val) // 2 :])))) / math.sqrt(2)
    gained = max(float(f.val[0]) - low, 0.0)
    still_learning = f.end < f.level_at(when) + 0.02 * f.drop
    if best < 0.85 * len(level) and end - low > max(0.08 * gained, 1.5 * noise) and still_learning:
        what = (
            f"the validation loss was best ({low:.3g}) after {when:.0%} of the run "
            f"and has risen to {end:.3g} while the training loss went to {f.end:.3g}"
        )
        advice = "Stop there (EarlyStopping), add weight decay, or get more data."
        return Finding("overfitting", "warning", what, advice)
    return None


def _flat(f: _Facts) -> Finding | None:
    """Converged, underfitting or plateau: three ways of not moving any more."""
    if f.still_falling > 0.08:
        return None
    level = f"the loss stays at {f.end:.3g}"
    left = f.end / f.start if f.start > 0 else math.nan
    if f.grad_left < 0.17 or abs(left) < 0.05 or f.spread < 0.19 * f.drop:
        why = f"{level}, down from {f.start:.3g}"
        if f.grad_change < 0.1:
            why += f", and the gradient norm fell to {f.grad_change:.1%} of what it was"
        return Finding("converged", "info", why, "Nothing more is to be had from longer training.")
    if left > 0.5 and f.noise < 0.3 * f.drop:
        why = f"{level}, {left:.0%} of its start, without swinging"
        return Finding("underfitting", "warning", why, "A larger model or better inputs may help.")
    why = f"{level}, down from {f.start:.3g}, but swings by {f.swing:.2g} around it"
    return Finding("plateau", "warning", why, "Lower the rate: the noise floor falls with it.")


def _healthy(f: _Facts) -> Finding:
    what = f"the loss fell from {f.start:.3g} to {f.end:.3g}"
    if f.late_sigma > 3:
        what += f" and is still falling, by {f.late_fall:.2g} over the last half"
    return Finding("healthy", "info", what, "Carry on; a decay at the end usually gains a little.")


def _findings(f: _Facts) -> list[Finding]:
    """What the checks find, the most telling first; whether a run is flat is asked last."""
    lost = _diverging(f)
    if lost is not None:
        return [lost]
    checks = [_overfitting(f), _too_high(f), _too_low(f)]
    return [finding for finding in checks if finding is not None] or [_flat(f) or _healthy(f)]


def _next_rate(verdict: str, f: _Facts) -> float | None:
    if not math.isfinite(f.lr) or f.lr <= 0:
        return None
    barely = f.drop < 0.02 * abs(f.start)
    factor = {"diverging": 0.1, "too_high": 0.25, "too_low": 100 if barely else 10, "plateau": 0.2}
    return f.lr * factor[verdict] if verdict in factor else None


def diagnose(history: Mapping[str, Any]) -> Diagnosis:
    """Judge a run by its curves.

    `history` maps names to arrays of one row per step, NaN where a series has no value. `loss` is
    needed; `lr, val_loss, grad_norm, update_ratio` are used when they are there.

    Raises ValueError when there is no `loss`, or nothing in it.

    >>> diagnosis = diagnose({"loss": [2.0 - 0.001 * k for k in range(100)], "lr": [0.01] * 100})
    >>> diagnosis.verdict, diagnosis.suggested_lr
    ('too_low', 0.1)
    """
    if "loss" not in history or not len(_series(history, "loss")):
        names = ", ".join(sorted(history)) or "nothing"
        raise ValueError(f"diagnose: history needs a non-empty series 'loss', it has {names}")
    facts = _facts(history)
    found = _findings(facts)
    verdict = found[0].kind
    if facts.steps < FEWEST_STEPS and verdict != "diverging":
        short = Finding(
            "not_enough_data",
            "info",
            f"the history has {facts.steps} losses",
            f"Train for at least {FEWEST_STEPS} steps and ask again.",
        )
        return Diagnosis("healthy", (short,), None, enough_data=False)
    return Diagnosis(verdict, tuple(found), _next_rate(verdict, facts))
