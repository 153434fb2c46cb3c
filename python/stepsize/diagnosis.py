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
  way and with little jitter, is a rate too low;
* noise floor: a loss that neither falls nor rests, its jitter in proportion to the rate (Murata
  1998; Smith & Le 2018, arXiv:1710.06451): far from its start a plateau, near it a rate too high.

The thresholds were set on the tuning half of bench/advice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepsize.signals import Signals, measure, series

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
        parts += [f"Another signal points to {words(f.kind)}: {f}" for f in self.findings[1:]]
        if self.suggested_lr is not None:
            parts.append(f"Try lr={self.suggested_lr:.1e} next.")
        return " ".join(parts)


def _diverging(s: Signals) -> Finding | None:
    advice = "Lower the rate by ten, or find one with lr_find; warm-up and clip_norm help too."
    if s.broke_at is not None:
        what = f"the loss or the gradient stopped being finite at step {s.broke_at}"
        return Finding("diverging", "critical", what, advice, (s.steps / s.rows, 1.0))
    # Weights that hardly moved make no loss rise: that is the noise of the batches.
    if s.travel < 3 or (math.isnan(s.travel) and s.flat):
        return None
    where = (s.best_at, 1.0)
    if s.end - s.start > 0.05 * s.drop and (s.above > 0.02 or s.quantile_above):
        what = f"the loss ended at {s.end:.3g}, above its start of {s.start:.3g}"
        return Finding("diverging", "critical", what, advice, where)
    if s.held is not None and s.held.above_start and s.peak > 3 and s.above > -0.3:
        what = f"the loss rose to {s.top:.3g}, ended at {s.end:.3g} near its start of "
        what += f"{s.start:.3g}, and the validation loss ended above its own"
        return Finding("diverging", "critical", what, advice, where)
    return None


def _unmoved(s: Signals) -> Finding | None:
    settled = s.fall_sure < 2 and s.fell_sure > 20
    advice = "Every step goes the right way but is too short: raise the rate."
    if math.isnan(s.travel) and s.flat:
        what = f"the loss has not moved from {s.start:.3g} beyond its noise"
        return Finding("too_low", "warning", what, advice)
    if not s.travel < 0.5 or settled:
        return None
    what = f"the weights travel only {s.travel:.2g} times their own length in this run"
    if s.fall_sure > 2:
        what += f", and the loss is still falling ({s.start:.3g} to {s.end:.3g})"
    return Finding("too_low", "warning", what, advice)


def _dead(s: Signals) -> Finding | None:
    if not s.still or not s.end > 0.5 * s.start > 0:
        return None
    what = f"the gradient vanished with the loss still at {s.end:.3g}, as if units died"
    return Finding("too_high", "warning", what, "A step was too long: start again at a lower rate.")


def _overfitting(s: Signals) -> Finding | None:
    held = s.held
    if held is None or s.start - s.end < 0.8 * s.drop or s.left > 0.55:
        return None
    turned = held.rise > 0.07 and held.rise_sure > 0.5 and held.when < 0.72
    if not turned or held.since < -0.06 or held.end < s.end:
        return None
    what = (
        f"the validation loss was best ({held.low:.3g}) after {held.when:.0%} of the run and has "
        f"risen to {held.end:.3g} while the training loss went to {s.end:.3g}"
    )
    advice = "Stop there (EarlyStopping), add weight decay, or get more data."
    return Finding("overfitting", "warning", what, advice, (held.when, 1.0))


def _overshot(s: Signals) -> bool:
    """Whether the loss went far above its start, and has not come to a complete rest since."""
    jumped = s.held is not None and s.held.jump > 2.2 and s.peak > 0.3
    return s.swing > 0.006 and (s.peak > 8 or jumped)


def _falling(s: Signals) -> float:
    """The share of the decrease made in the last half; 0 where noise could have made it."""
    return s.fall if s.fall_sure > 2.5 else 0.0


def _too_low(s: Signals) -> Finding | None:
    travel = 4.0 if math.isnan(s.travel) else s.travel
    # The nearer to the limits of stability and noise, the more is to be had from time alone.
    limit = 0.15 * (travel / 2) ** 0.25 * (max(s.jitter, 1e-4) / 0.02) ** 0.2
    if _overshot(s) or _falling(s) <= limit:
        return None
    what = (
        f"the loss is still falling ({s.start:.3g} to {s.end:.3g}), "
        f"{_falling(s):.0%} of that in the last half of the run, with little jitter"
    )
    if s.grad_change > 0.7:
        what += f"; the gradient norm is still {s.grad_change:.0%} of what it was"
    advice = "Every step goes the right way but is too short: raise the rate."
    return Finding("too_low", "warning", what, advice, (0.5, 1.0))


def _too_high(s: Signals) -> Finding | None:
    signs: list[tuple[str, tuple[float, float]]] = []
    if s.lost > 0.08 and s.lost_sure > 1.7:
        what = f"the loss ended at {s.end:.3g} after a best level of {s.best:.3g}"
        signs.append((what, (s.best_at, 1.0)))
    if _overshot(s) and (s.swing > 0.3 or s.left > 0.13):
        what = f"the loss rose to {s.top:.3g} from a start of {s.start:.3g} before it fell"
        signs.append((what, (0.0, s.top_at)))
    if _bounces(s) and s.left > 0.27:
        signs.append((f"the loss swings by {s.swing * s.drop:.2g} without falling", (0.75, 1.0)))
    if s.flips > 0.75:
        what = f"{s.flips:.0%} of the gradient's signs change from one step to the next"
        signs.append((what, (0.75, 1.0)))
    if s.edge > 2 and _falling(s) < 0.057:
        what = f"the rate times the sharpness is {s.edge:.2g}, above the limit of stability, 2"
        signs.append((what, (0.75, 1.0)))
    if not signs:
        return None
    advice = "Steps overshoot the valley: lower the rate, or decay it."
    evidence = ", ".join(what for what, _ in signs)
    return Finding("too_high", "warning", evidence, advice, signs[0][1])


def _bounces(s: Signals) -> bool:
    """Whether the loss moves to and fro, and not only because batches differ: the weights do."""
    moves = s.swing > 0.11 and s.jitter > 0.027 and not s.grad_jitter <= 0.085
    return moves and _falling(s) <= 0.057


def _plateau(s: Signals) -> Finding | None:
    if not _bounces(s):
        return None
    what = f"the loss stays at {s.end:.3g}, down from {s.start:.3g}, but swings by "
    what += f"{s.swing * s.drop:.2g} around it"
    advice = "Lower the rate: the noise floor falls with it."
    return Finding("plateau", "warning", what, advice, (0.5, 1.0))


def _healthy(s: Signals) -> Finding | None:
    if _falling(s) <= 0.057:
        return None
    if s.fell_sure < 2 or (s.held is not None and s.held.above_start):
        what = f"the loss at the end, {s.end:.3g}, is not clearly below its start of {s.start:.3g}"
        advice = "Nothing was learnt for good: lower the rate."
        return Finding("too_high", "warning", what, advice, (0.0, 1.0))
    what = f"the loss fell from {s.start:.3g} to {s.end:.3g} and is still falling, "
    what += f"by {s.fall * s.drop:.2g} over the last half"
    advice = "Carry on; a decay at the end usually gains a little."
    return Finding("healthy", "info", what, advice, (0.5, 1.0))


def _settled(s: Signals) -> Finding:
    level = f"the loss stays at {s.end:.3g}"
    alike = s.held is None or abs(s.held.end - s.end) < 0.1 * s.drop
    if alike and s.left > 0.35:
        why = f"{level}, {s.left:.0%} of its start, without swinging"
        if s.held is not None:
            why += ", and the validation loss is no higher"
        advice = "A larger model or better inputs may help."
        return Finding("underfitting", "warning", why, advice, (0.5, 1.0))
    why = f"{level}, down from {s.start:.3g}"
    if s.grad_change < 0.1:
        why += f", and the gradient norm fell to {s.grad_change:.1%} of what it was"
    advice = "Nothing more is to be had from longer training."
    return Finding("converged", "info", why, advice, (0.5, 1.0))


def _findings(s: Signals) -> list[Finding]:
    """What the checks find, the most telling first; the first one is the verdict."""
    lost = _diverging(s)
    if lost is not None:
        return [lost]
    # A fall that goes on counts for more than swings, unless the run overshot.
    last = [_too_high, _plateau, _healthy] if _overshot(s) else [_healthy, _too_high, _plateau]
    found: list[Finding] = []
    for check in (_unmoved, _dead, _overfitting, _too_low, *last):
        finding = check(s)
        told = {f.kind for f in found}
        if finding is None or finding.kind in told:
            continue
        # The same swings are told of once, and good news does not follow bad.
        again = finding.kind == "plateau" and "too_high" in told
        if not again and not (told and finding.kind == "healthy"):
            found.append(finding)
    return found or [_settled(s)]


def _next_rate(verdict: str, s: Signals) -> float | None:
    """A rate that is safe to try next: a long way only where the signs are strong."""
    if not math.isfinite(s.lr) or s.lr <= 0:
        return None
    raised = 100 if s.travel < 0.01 else 10 if s.travel < 0.3 else 3
    lowered = 0.03 if s.still or s.peak > 100 else 0.25
    factor = {"diverging": 0.1, "too_high": lowered, "too_low": raised, "plateau": 0.2}
    return s.lr * factor[verdict] if verdict in factor else None


def diagnose(history: Mapping[str, Any]) -> Diagnosis:
    """Judge a run by its curves.

    `history` maps names to arrays of one row per step, NaN where a series has no value. `loss` is
    needed; `lr, val_loss, grad_norm, update_ratio` are used when they are there.

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
