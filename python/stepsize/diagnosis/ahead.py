"""What an experiment adds to the curves of a run: the past claims, the branches refute or do not.

An experiment is what `what_if` returns: branches of the run that went on at other rates, in pairs
over the same batches. The steps of the rule, each with the reason why it stands where it does:

* what the curves show beyond doubt stays: a loss that is not finite, a rate of 0, a validation loss
  that turned (no branch of a twentieth of a run sees that);
* ten times the rate falls faster than the run did on average, or the weights hardly moved: too low;
* a lower rate, or the mean of the weights, ends far below the present rate: the noise of the steps
  is much of all that the run has gained: too high; clearly below it, and by more than the run still
  gains: plateau;
* the last half gained, and a calm branch gains too: healthy; short branches alone cannot say so,
  since lowering the rate pays at once (short-horizon bias, Wu et al. 2018, arXiv:1803.02021);
* at rest: one batch that cannot be learnt by heart is a model too small (underfitting).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from stepsize.arrays import Curve
from stepsize.curves import paired
from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.likelier import ADVICE
from stepsize.diagnosis.pace import creeps, slope_told
from stepsize.diagnosis.verdicts import VERDICTS, Finding
from stepsize.diagnosis.wording import percent
from stepsize.validation import counted

MEAN = "the mean of the weights"
RELAXED = 3  # after this part of a branch its losses are those of its own rate
FEWEST_LOSSES = 3  # of a branch, to be compared


class _Branch(Protocol):
    @property
    def factor(self) -> float: ...
    @property
    def losses(self) -> Curve: ...
    @property
    def diverged(self) -> bool: ...


class Experiment(Protocol):
    """What a diagnosis reads of a `WhatIf`: branches, and how far they fall within and apart."""

    @property
    def branches(self) -> Sequence[_Branch]: ...
    @property
    def lr(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def run_steps(self) -> int: ...
    @property
    def before(self) -> Curve: ...
    @property
    def memorised(self) -> float | None: ...
    @property
    def average_gain(self) -> tuple[float, float] | None: ...
    def gain(self, factor: float) -> tuple[float, float]: ...
    def advantage(self, factor: float) -> tuple[float, float]: ...


Asked: TypeAlias = Callable[[], Experiment | None]


@dataclass(frozen=True)
class Ahead:
    """The branches in decreases of the run, the unit of all its features.

    ``lead`` is how far the lowest of the calm futures (a lower rate, the mean of the weights) ends
    below the present rate, ``lead_z`` that in standard errors, ``lead_of`` which it is; ``calm`` is
    the most that any of them, or the present rate, may gain within its error. ``raised`` is what
    the highest factor gains, -inf where it diverges, and ``raised_lead`` how far it ends below the
    present rate; ``pace`` is what the run gained on average in as many steps. ``level`` is the held
    loss now as a share of the decrease, ``memorised`` the share that is left of one batch learnt by
    heart, NaN where it was not asked for; ``broke``, whether the present rate diverges.
    """

    lead: float
    lead_z: float
    lead_of: str
    calm: float
    raised: float
    raised_lead: float
    raised_z: float
    pace: float
    level: float
    memorised: float
    broke: bool


def is_experiment(found: Any) -> bool:
    """Whether it has what a diagnosis reads."""
    names = ("branches", "lr", "steps", "run_steps", "before", "memorised", "average_gain")
    return all(hasattr(found, name) for name in (*names, "gain", "advantage"))


def are_alike(found: Experiment) -> bool:
    """Whether all branches are the same to the bit: at a rate of 0 a factor changes nothing."""
    ways = {np.asarray(branch.losses).tobytes() for branch in found.branches}
    return len(ways) == 1 < len(found.branches)


def is_void(found: Experiment) -> bool:
    """Whether the branches say nothing of the rate: alike, or all lost at the same batch."""
    lost = [len(branch.losses) for branch in found.branches if branch.diverged]
    lost_at_one = len(lost) == len(found.branches) > 1 and len(set(lost)) == 1
    return lost_at_one or are_alike(found)


def ahead_of(found: Experiment, f: CurveFeatures) -> Ahead:
    """The numbers of an experiment, in decreases of the run."""
    unit = f.levels.decrease
    factors = [branch.factor for branch in found.branches]
    lower = {f"x{k:g}": _below(found, k) for k in factors if k < 1}
    if found.average_gain is not None:
        lower[MEAN] = found.average_gain
    lower = {name: pair for name, pair in lower.items() if not math.isnan(pair[0])}
    lead_of = max(lower, key=lambda name: lower[name][0], default="")
    lead, error = lower.get(lead_of, (0.0, 0.0))
    made = max(found.run_steps, f.steps, 1)
    calm = [found.gain(k) for k in factors if k <= 1]
    if found.average_gain is not None:
        (gain, spread), (more, other) = found.gain(1.0), found.average_gain
        calm.append((gain + more, math.hypot(spread, other)))
    highest = max(factors)
    raised, raised_lead = found.gain(highest), found.advantage(highest)
    return Ahead(
        lead=lead / unit,
        lead_z=_z(lead, error),
        lead_of=lead_of,
        calm=max(gain + th.CALM_Z * spread for gain, spread in calm) / unit,
        raised=raised[0] / unit if highest > 1 else -math.inf,
        raised_lead=raised_lead[0] / unit if highest > 1 else -math.inf,
        raised_z=_z(*raised_lead),
        pace=max(f.levels.start - f.levels.end, 0.0) / unit * found.steps / made,
        level=float(found.before.mean()) / unit,
        memorised=math.nan if found.memorised is None else found.memorised,
        broke=found.branches[factors.index(1.0)].diverged,
    )


def _below(found: Experiment, factor: float) -> tuple[float, float]:
    """How far a branch lies below that at the present rate, and the error of that.

    Along its steps, over the batches that both train on: at its end the present rate is one draw of
    the jitter of its weights, along the way it is many. Branches too short for that are compared on
    the held batches.
    """
    ends, error = found.advantage(factor)
    losses = {branch.factor: branch.losses for branch in found.branches}
    first = len(losses[1.0]) // RELAXED
    present, lowered = losses[1.0][first:], losses[factor][first:]
    if not math.isfinite(ends) or len(present) != len(lowered) or len(present) < FEWEST_LOSSES:
        return ends, error
    return paired(present, lowered)


def _z(value: float, error: float) -> float:
    """A value in standard errors; without a spread, beyond any doubt."""
    if math.isinf(value) or error <= 0:
        return math.copysign(math.inf, value) if value else 0.0
    return value / error


def revised(
    found: list[Finding], f: CurveFeatures, a: Ahead, e: Experiment, *, doubtful: bool
) -> list[Finding]:
    """The findings with what the branches show first, where they decide."""
    if f.movement.idle >= th.IDLE or f.broke_at is not None:
        return found
    told = outrun(found, f, a, e)
    if told is None and found[0].kind != "diverging":
        told = _lost(e) if a.broke else _told(found[0].kind, f, a, e) if doubtful else None
    if told is None:
        return found
    others = [o for o in found if o.kind == told.kind or o.kind not in VERDICTS]
    if others and others[0].kind == told.kind:
        known, *others = others
        what = f"{known.evidence}; {told.evidence}"
        if told.kind == "healthy":
            what = f"{known.evidence}; {counted(e.steps, 'more step')} do not refute it"
        elif told.kind == "converged":  # with its level and slope
            what = told.evidence
        told = Finding(told.kind, told.severity, what, told.advice, known.span)
    return [told, *others]


def advice(e: Experiment) -> dict[str, str]:
    """What follows from each verdict that branches tell."""
    fade = "Let the rate fade to 0 along a line over the steps that are left, "
    fade += f"lr=ss.schedules.linear({e.lr:.3g}, 0, steps): that ends lower than any one factor."
    return ADVICE | {"healthy": "Carry on.", "plateau": fade}


def _advice(kind: str, e: Experiment) -> str:
    return advice(e)[kind]


def _lost(e: Experiment) -> Finding:
    what = f"{counted(e.steps, 'more step')} at the present rate end where the loss is not finite"
    return Finding("too_high", "critical", what, "Go back, and lower the rate.", (0.95, 1.0))


def _told(verdict: str, f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """The finding that the branches make of what the curves say, None where they have no say."""
    lowering = _lowering(f, a, e)
    if verdict == "overfitting":
        return lowering if a.lead > th.AHEAD_TOO_HIGH else None
    if verdict == "too_high" and f.levels.peak > th.OVERSHOT_PEAK:
        return None  # an overshoot that the weights may have settled from, far from where they were
    raising = _raising(f, a, e)
    if verdict == "too_low" and f.movement.relative_path < th.SHORT_PATH and lowering is None:
        return raising
    return raising or lowering or _going_on(f, a, e) or _at_rest(f, a, e)


def _raising(f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """Ten times the rate falls faster than the run did on average, and than it does now."""
    path = f.movement.relative_path
    short = path < th.SHORT_PATH and a.raised_lead > 0 and a.raised_z > th.AHEAD_Z
    faster = a.raised > th.AHEAD_RAISED * a.pace and a.raised_z > th.AHEAD_Z
    if not short and not (faster and a.raised_lead > th.AHEAD_RAISED_LEAD):
        return None
    return _faster(f, a, e)


def _faster(f: CurveFeatures, a: Ahead, e: Experiment) -> Finding:
    factor = max(branch.factor for branch in e.branches)
    ends = f"{a.raised_lead * f.levels.decrease:.2g}"
    what = (
        f"{counted(e.steps, 'more step')} at {factor:g} times the rate end {ends} below those at "
    )
    what += "the present one"
    return Finding("too_low", "warning", what, _advice("too_low", e), (0.5, 1.0))


def outrun(found: Sequence[Finding], f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """The highest rate wins by so much that no sign of the curves stands against it, else None.

    The run falls at the present rate, each higher one falls faster, and the highest far faster than
    the run did: so does a run whose steps are too short, whatever swings or rises on the way. A
    validation that turned is another matter, and so is a run that was thrown far off.
    """
    verdict, factors = found[0].kind, sorted(branch.factor for branch in e.branches)
    thrown = verdict == "too_high" and f.levels.peak > th.OVERSHOT_PEAK
    if verdict == "diverging":  # what the highest rate brings below the start was batches alone
        thrown = a.level - a.raised >= f.levels.start / f.levels.decrease
    lost = f.broke_at is not None or f.movement.idle >= th.IDLE
    if a.broke or thrown or lost or verdict == "overfitting" or factors[-1] <= 1:
        return None
    gains = [e.gain(factor)[0] for factor in factors]
    falls = gains == sorted(gains) and _z(*e.gain(1.0)) > th.OUTRUN_Z
    faster = a.raised > th.OUTRUN * a.pace and a.raised_lead > th.AHEAD_RAISED_LEAD
    if f.levels.decrease_z < th.START_Z:  # nothing fell that one could see: then in proportion
        faster |= gains[-1] > th.PROPORTIONAL * gains[factors.index(1.0)]
    return _faster(f, a, e) if falls and faster and a.raised_z > th.OUTRUN_Z else None


def _lowering(f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """A lower rate, or the mean of the weights, ends clearly below the present rate."""
    if a.lead_z < th.AHEAD_Z or a.lead <= th.AHEAD_NOTHING:
        return None
    gained = max(f.trend.late_decrease, 0.0) if f.trend.late_decrease_z > th.LATE_Z else 0.0
    lead = a.lead * f.levels.decrease
    ends = f"{lead:.2g} (+-{lead / a.lead_z:.1g}), {percent(a.lead)} of the whole decrease,"
    more = counted(e.steps, "more step")
    if a.lead_of != MEAN:
        last = e.advantage(float(a.lead_of[1:]))[0]
        what = (
            f"{more} at {a.lead_of[1:]} times the rate lie {ends} below those at the present one "
        )
        side = "below" if last >= 0 else "above"
        what += f"on their way, and {abs(last):.2g} {side} at their end"
    else:
        what = f"{MEAN} over {more} ends {ends} below the weights themselves"
    if a.lead > th.AHEAD_TOO_HIGH:
        return Finding("too_high", "warning", what, _advice("too_high", e), (0.75, 1.0))
    enough = a.lead > th.AHEAD_PLATEAU or a.lead > th.AHEAD_PLATEAU_LEVEL * abs(a.level)
    if not enough or a.lead <= th.AHEAD_PLATEAU_GAINED * gained:
        return None
    return Finding("plateau", "warning", what, _advice("plateau", e), (0.5, 1.0))


def _claimed(f: CurveFeatures) -> bool:
    """Whether the last half gained: a share of the decrease, or a clear share of what is left.

    The second alone is no claim without branches: as often it is a plateau, or the noise of a loss
    that is nearly nothing.
    """
    late, z = f.trend.late_decrease, f.trend.late_decrease_z
    left = abs(f.levels.end) / f.levels.decrease
    clear = z > th.AHEAD_LATE_Z and late > th.AHEAD_LATE_LEAST and late > th.AHEAD_LATE_LEVEL * left
    return clear or creeps(f) or (late > th.LATE_DECREASE and z > th.LATE_Z)


def not_below(f: CurveFeatures, e: Experiment) -> str:
    """That no branch decides, with the numbers of its table and the line that they do not reach."""
    leads = {b.factor: e.advantage(b.factor) for b in e.branches if b.factor != 1}
    clear = {k: lead for k, (lead, error) in leads.items() if lead > th.CLEAR_Z * error}
    factor = max(clear, key=clear.__getitem__, default=1.0)
    if factor == 1 or not math.isfinite(clear[factor]):
        return f"no branch ends below the present rate by {th.CLEAR_Z} standard errors"
    lead, error = leads[factor]
    unit = f.levels.decrease
    what = f"x{factor:g} ends {lead:.2g} (+-{error:.1g}) below the present rate, "
    what += f"{percent(lead / unit)} of the whole decrease"
    if factor > 1:
        return what + ", but falls no faster than the run did on average"
    way, spread = (x / unit for x in _below(e, factor))
    line = percent(th.AHEAD_PLATEAU)
    return (
        what
        + f" ({percent(way)} (+-{spread:.1%}) along its steps, where a plateau begins at {line})"
    )


def _going_on(f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """What the past claims, a gain in its last half, and no calm branch refutes."""
    t = f.trend
    if not _claimed(f) or a.calm <= th.AHEAD_CALM:
        return None
    what = (
        f"the loss fell by {t.late_decrease * f.levels.decrease:.2g} in the last half of the run, "
    )
    what += f"which {counted(e.steps, 'more step')} do not refute"
    return Finding("healthy", "info", what, _advice("healthy", e), (0.5, 1.0))


def _at_rest(f: CurveFeatures, a: Ahead, e: Experiment) -> Finding | None:
    """Nothing gains: all is learnt, or the model is too small to learn even one batch by heart."""
    share, level = f.levels.end_share, f.levels.end
    kept = a.memorised
    if share <= th.REST_LEVEL or math.isnan(share) or not kept > th.AHEAD_MEMORISED:
        what = f"{not_below(f, e)}, and the loss rests at {level:.4g}; {slope_told(f)}"
        return Finding("converged", "info", what, _advice("converged", e), (0.5, 1.0))
    what = f"{not_below(f, e)}, and of one batch learnt alone "
    what += f"{kept:.0%} of the loss is left"
    return Finding("underfitting", "warning", what, _advice("underfitting", e), (0.5, 1.0))


def rate_after(verdict: str, f: CurveFeatures, e: Experiment) -> float | None:
    """The next rate: the verdict first, then the branch.

    Not the branch that ends lowest, since a lower rate nearly always does, and learns more slowly
    afterwards; and none for a plateau, which is left by a decay and not by a factor.
    """
    if verdict == "plateau":
        return None
    row = VERDICTS[verdict]
    if row.rate_factor is None or not (math.isfinite(e.lr) and e.lr > 0):
        return None
    way = [b.factor for b in e.branches if not b.diverged and (b.factor - 1) * row.way > 0]
    leads = {factor: e.advantage(factor) for factor in way}
    clear = [k for k, (lead, error) in leads.items() if lead > th.AHEAD_Z * error]
    if not clear:
        return e.lr * row.rate_factor(f)
    return e.lr * max(clear, key=lambda factor: leads[factor][0])
