"""Say what is wrong with a training run, from the curves it left.

The checks and their sources, in the order in which they are asked:

* divergence: the loss is no longer finite, or ends above its start;
* the way the weights went: steps too short to change them (update ratio, summed over the run);
* generalisation gap: the validation loss turns while the training loss falls (Prechelt 1998, "Early
  stopping - but when?");
* overshoot: the loss rose far above its start before it fell, as it does where the rate times the
  sharpness passes 2 (Cohen et al. 2021, arXiv:2103.00065, edge of stability);
* sign flips (`DiagnosisMonitor` records them) and rate times sharpness, where the history has them:
  gradients that turn round at every step, and the limit of stability;
* trend: how much still falls in the last half, against its standard error; much of it, at a short
  way and with little jitter, is a rate too low; what as many steps again would gain, by the shape
  of the decay, tells a run that goes on from one that comes to rest;
* noise floor: a loss that neither falls nor rests, its jitter in proportion to the rate (Murata
  1998; Smith & Le 2018, arXiv:1710.06451): far from its start a plateau, near it a rate too high.

The thresholds were set on labelled runs of bench/advice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepsize.diagnosis.features import Signals, measure, series

LEADS = {
    "diverging": "This run is diverging.",
    "too_high": "The learning rate is too high.",
    "healthy": "This run is healthy.",
    "too_low": "The learning rate is too low.",
    "plateau": "This run is on a plateau.",
    "converged": "This run has converged.",
    "overfitting": "This run is overfitting.",
    "underfitting": "This run is underfitting.",
}
VERDICTS = tuple(LEADS)
FEWEST_STEPS = 20


def words(verdict: str) -> str:
    """A verdict as one says it: "too high" for "too_high"."""
    return verdict.replace("_", " ")


@dataclass(frozen=True)
class Finding:
    """One observation: what it points to, how bad it is, the numbers, what to do, and where.

    `severity` is "info", "warning" or "critical"; `span` the part of the run it speaks of, from 0,
    its start, to 1.
    """

    kind: str
    severity: str
    evidence: str
    advice: str
    span: tuple[float, float] = (0.0, 1.0)

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
        lead = LEADS[self.verdict]
        if not self.enough_data:
            lead = "There is not enough data for a verdict."
        parts = [lead, *map(str, self.findings[:1])]
        parts += [
            f"Another signal points to {words(f.kind)}: {f.evidence}. {f.advice}"
            for f in self.findings[1:]
        ]
        if self.suggested_lr is not None:
            parts.append(f"Try lr={self.suggested_lr:.1e} next.")
        return " ".join(parts)


def _pair(a: float, b: float) -> tuple[str, str]:
    """Two numbers, with as many digits as tell them apart."""
    nearest = max(abs(a), abs(b)) / max(abs(a - b), 1e-300)
    digits = 3 + min(9, max(0, math.floor(math.log10(max(nearest, 1.0)))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def _share(part: float) -> str:
    return f"{part:.0%} of" if part < 1.5 else f"{part:.2g} times"


def _diverging(s: Signals) -> Finding | None:
    advice = "Start again at a far lower rate, or ask lr_find; warm-up and clip_norm help too."
    start, end = _pair(s.start, s.end)
    if s.broke_at is not None:
        what = f"the loss or the gradient stopped being finite at step {s.broke_at}"
        if s.stride > 0.1:
            what += f", after first steps of {s.stride:.2g} times the weights' own length"
        return Finding("diverging", "critical", what, advice, (s.steps / s.rows, 1.0))
    # Weights that hardly moved make no loss rise: that is the noise of the batches.
    if s.travel < 3 or (math.isnan(s.travel) and s.flat):
        return None
    where = (s.best_at, 1.0)
    if s.end - s.start > 0.05 * s.drop and (s.above > 0.02 or s.quantile_above):
        what = f"the loss ended at {end}, above its start of {start}"
        return Finding("diverging", "critical", what, advice, where)
    if s.held is not None and s.held.above_start and s.peak > 3 and s.above > -0.3:
        what = f"the loss rose from {start} to {s.top:.3g} and came back to {end} at best, and the "
        what += "validation loss ended above its start"
        return Finding("diverging", "critical", what, advice, where)
    return None


def _unmoved(s: Signals) -> Finding | None:
    rests = s.fall_sure < 2 or (s.fall < 0.057 and s.coming < 0.02)
    settled = rests and s.fell_sure > 20 and s.left <= 0.2
    advice = "The steps are too short to get anywhere: raise the rate."
    if math.isnan(s.travel) and s.flat:
        what = f"the loss has not moved from {s.start:.3g} beyond its noise"
        return Finding("too_low", "warning", what, advice)
    if not s.travel < 0.5 or settled:
        return None
    what = f"all steps together moved the weights by {s.travel:.2g} times their own length"
    if s.fall_sure > 2 and s.end < s.start:
        what += ", and the loss is still falling (from {} to {})".format(*_pair(s.start, s.end))
    return Finding("too_low", "warning", what, advice)


def _dead(s: Signals) -> Finding | None:
    if not s.still or not s.end > 0.5 * s.start > 0:
        return None
    what = f"the gradient vanished with the loss still at {s.end:.3g}, as if units died"
    advice = "One step was too long: start again at a lower rate."
    return Finding("too_high", "warning", what, advice)


def _overfitting(s: Signals) -> Finding | None:
    held = s.held
    if held is None or s.start - s.end < 0.8 * s.drop or s.left > 0.55:
        return None
    turned = held.rise > 0.07 and held.rise_sure > 0.5 and held.when < 0.72
    if not turned or held.since < -0.06 or held.end < s.end:
        return None
    what = (
        f"the validation loss was best ({held.low:.3g}) after {held.when:.0%} of the run and has "
        f"risen to {held.end:.3g} while the training loss fell to {s.end:.3g}"
    )
    advice = "Stop there (EarlyStopping), add weight decay, or get more data."
    return Finding("overfitting", "warning", what, advice, (held.when, 1.0))


def _overshot(s: Signals) -> bool:
    """Whether the loss went far above its start, and has not come to a complete rest since."""
    jumped = s.held is not None and s.held.jump > 2.2 and s.peak > 0.3
    return s.swing > 0.006 and (s.peak > 8 or jumped)


def _falling(s: Signals) -> float:
    """The share of the decrease made in the last half; 0 where noise could have made it."""
    return s.fall if s.fall_sure > 1.5 else 0.0


def _goes_on(s: Signals) -> bool:
    """Whether the loss falls, and as many steps again will gain by the shape of its decay."""
    # The less is left of the loss, the less of what seems to be coming can come.
    return _falling(s) > 0.02 and s.coming * min(s.left, 0.15) > 0.004


def _too_low(s: Signals) -> Finding | None:
    travel = 1.0 if math.isnan(s.travel) else s.travel
    # The nearer to the limits of stability and noise, the more is to be had from time alone.
    limit = 1.2 * math.sqrt(travel * max(s.jitter, 2e-3))
    if _overshot(s) or _falling(s) <= limit:
        return None
    start, end = _pair(s.start, s.end)
    what = f"the loss fell from {start} to {end}, {_share(_falling(s))} that in the last half of "
    what += "the run, smoothly and without coming to rest"
    if 0.7 < s.grad_change < 1.5:
        what += f"; the gradient is still {s.grad_change:.0%} as long as at the start"
    advice = "The steps go the right way but are too short: raise the rate."
    return Finding("too_low", "warning", what, advice, (0.5, 1.0))


def _too_high(s: Signals) -> Finding | None:
    signs: list[tuple[str, tuple[float, float]]] = []
    # The best of many levels is two errors below the others by chance alone.
    if s.lost > 0.08 and s.lost_sure > (1.7 if s.jitter > 0.02 else 4):
        what = "the loss ended at {}, above the {} it had reached".format(*_pair(s.end, s.best))
        signs.append((what, (s.best_at, 1.0)))
    if _overshot(s) and (s.swing > 0.3 or s.left > 0.13):
        what = "the loss first rose from {} to {}".format(*_pair(s.start, s.top))
        signs.append((what, (0.0, s.top_at)))
    if _bounces(s) and s.left > 0.27:
        what = f"the loss no longer falls but swings by {s.swing * s.drop:.2g}, "
        signs.append((f"{what}{_share(s.swing)} all it fell before", (0.75, 1.0)))
    if s.flips > 0.75:
        what = f"{s.flips:.0%} of the gradient's signs change from one step to the next"
        signs.append((what, (0.75, 1.0)))
    if s.edge > 2 and _falling(s) < 0.057:
        what = f"the rate times the sharpness is {s.edge:.2g}, above the limit of stability, 2"
        signs.append((what, (0.75, 1.0)))
    if not signs:
        return None
    advice = "The steps overshoot: lower the rate, or let it decay."
    evidence = ", and ".join(what for what, _ in signs)
    return Finding("too_high", "warning", evidence, advice, signs[0][1])


def _bounces(s: Signals) -> bool:
    """Whether the loss moves to and fro, and not only because batches differ: the weights do."""
    moves = s.swing > 0.11 and s.jitter > 0.027 and not s.grad_jitter <= 0.085
    return moves and not _goes_on(s)


def _plateau(s: Signals) -> Finding | None:
    if not _bounces(s):
        return None
    what = f"the loss came down from {s.start:.3g} but now swings around {s.end:.3g}, by "
    what += f"{s.swing * s.drop:.2g}"
    advice = "Lower the rate, or let it decay: the swings shrink with it, and the loss falls again."
    return Finding("plateau", "warning", what, advice, (0.5, 1.0))


def _healthy(s: Signals) -> Finding | None:
    if not _goes_on(s):
        return None
    if s.fell_sure < 2 or (s.held is not None and s.held.above_start):
        what = "the loss ended at {}, not clearly below its start of {}".format(
            *_pair(s.end, s.start)
        )
        advice = "The steps undo what they learn: lower the rate."
        return Finding("too_high", "warning", what, advice, (0.0, 1.0))
    what = f"the loss fell from {s.start:.3g} to {s.end:.3g}, by {s.fall * s.drop:.2g} in the last "
    what += f"half of the run, and may fall by {s.coming * s.drop:.2g} more in as many steps"
    advice = "Carry on; a decay of the rate at the end usually gains a little."
    return Finding("healthy", "info", what, advice, (0.5, 1.0))


def _settled(s: Signals) -> list[Finding]:
    """What a loss at rest means; near the line, the other reading too."""
    level, high = f"the loss has settled at {s.end:.3g}", f"still {s.share:.0%} of its start"
    late = (0.5, 1.0)
    if s.share > 0.2 and s.travel < 1:
        what = f"{level}, {high}, but all steps together moved the weights by only "
        what += f"{s.travel:.2g} times their length"
        return [Finding("too_low", "warning", what, "Try a higher rate before a larger model.")]
    why = f"{level}, down from {s.start:.3g}"
    if s.grad_change < 0.1:
        why += f", and the gradient norm fell to {s.grad_change:.1%} of what it was"
    advice = "Stop here: longer training at this rate gains nothing."
    found = [Finding("converged", "info", why, advice, late)]
    if s.share > 0.1 and (s.held is None or s.held.end < 1.5 * s.end):
        why = f"{level}, {high}"
        if s.held is not None:
            why += ", and the validation loss beside it"
        advice = "This model may not be able to do better: try a larger one, or better inputs."
        clear = s.share > 0.2
        under = Finding("underfitting", "warning" if clear else "info", why, advice, late)
        found.insert(0 if clear else 1, under)
    # Both are said where noise in the data may explain what is left.
    return found if 0.1 < s.share < 0.5 else found[:1]


def _findings(s: Signals) -> list[Finding]:
    """What the checks find, the most telling first; the first one is the verdict."""
    lost = _diverging(s)
    if lost is not None:
        return [lost]
    still = _unmoved(s)
    if still is not None:
        # Where the weights stayed the loss has nothing to tell but the noise of the batches.
        return [still]
    # A fall that goes on counts for more than swings, unless the run overshot.
    last = [_too_high, _plateau, _healthy] if _overshot(s) else [_healthy, _too_high, _plateau]
    found: list[Finding] = []
    for check in (_dead, _overfitting, _too_low, *last):
        finding = check(s)
        told = {f.kind for f in found}
        if finding is None or finding.kind in told:
            continue
        # The same swings are told of once, and good news does not follow bad.
        again = finding.kind == "plateau" and "too_high" in told
        if not again and not (told and finding.kind == "healthy"):
            found.append(finding)
    return found or _settled(s)


def _next_rate(verdict: str, s: Signals) -> float | None:
    """A rate that is safe to try next: a long way only where the signs are strong."""
    if not math.isfinite(s.lr) or s.lr <= 0:
        return None
    raised = 100 if s.travel < 0.01 else 10 if s.travel < 0.3 else 3
    lowered = 0.03 if s.still or s.peak > 100 else 0.25
    # Trainings that go well begin with steps of about a hundredth of the weights.
    away = min(max(0.01 / s.stride, 1e-3), 0.1) if s.stride > 0 else 0.1
    factor = {"diverging": away, "too_high": lowered, "too_low": raised, "plateau": 0.2}
    return s.lr * factor[verdict] if verdict in factor else None


def diagnose(history: Mapping[str, Any]) -> Diagnosis:
    """Judge a run by its curves.

    `history` maps names to arrays of one row per step, NaN where a series has no value. `loss` is
    needed; `lr, val_loss, grad_norm, update_ratio` are used when they are there, and `step` where
    not every step has a row.

    Raises ValueError when there is no `loss`, or nothing in it.

    >>> diagnosis = diagnose({"loss": [2.0 - 0.001 * k for k in range(100)], "lr": [0.01] * 100})
    >>> diagnosis.verdict, diagnosis.suggested_lr
    ('too_low', 0.03)
    """
    if "loss" not in history or not len(series(history, "loss")):
        names = ", ".join(sorted(history)) or "nothing"
        raise ValueError(f"diagnose: history needs a non-empty series 'loss', it has {names}")
    signals = measure(history)
    found = _findings(signals)
    verdict = found[0].kind
    if signals.steps < FEWEST_STEPS and verdict != "diverging":
        short = Finding(
            "not_enough_data",
            "info",
            f"the history has {signals.steps} losses",
            f"Train for at least {FEWEST_STEPS} steps and ask again.",
        )
        return Diagnosis("healthy", (short,), None, enough_data=False)
    return Diagnosis(verdict, tuple(found), _next_rate(verdict, signals))
