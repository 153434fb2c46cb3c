"""The checks of a run, in the order in which they are asked, each with its source.

* divergence: the loss is no longer finite, or ends above its start;
* path length of the weights (the sum of their update ratios): steps too short to change them;
* a gradient that vanished with the loss still high: dead units;
* generalisation gap: the validation loss turns while the training loss falls (Prechelt 1998, "Early
  stopping - but when?");
* trend: how much falls in the last half, against its standard error; much of it, at a short path
  and with little jitter, is a rate too low; the shape of the decay tells whether it goes on;
* overshoot: the loss rose far above its start before it fell, as it does where the rate times the
  sharpness passes 2 (Cohen et al. 2021, arXiv:2103.00065, edge of stability);
* sign flips (`DiagnosisMonitor` records them) and rate times sharpness, where the history has them;
* noise floor: a loss that jitters in proportion to the rate (Murata 1998; Smith & Le 2018,
  arXiv:1710.06451): far from its start a plateau, near it a rate too high.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.floor import endless
from stepsize.diagnosis.generalisation import (
    early,
    few_validations,
    generalises_nothing,
    metric_turned,
    overfitting,
    settled,
)
from stepsize.diagnosis.pace import creeps, more_told, slope_told
from stepsize.diagnosis.verdicts import Finding
from stepsize.diagnosis.wording import apart, beside, percent, share_of, went

WHOLE, LAST_HALF, LAST_QUARTER = (0.0, 1.0), (1 / 2, 1.0), (1 - 1 / 2 / 2, 1.0)

Check = Callable[[CurveFeatures], Finding | None]


def diverging(f: CurveFeatures) -> Finding | None:
    """The loss is no longer finite, or ends above its start though the weights moved."""
    levels, movement, validation = f.levels, f.movement, f.validation
    advice = "Start again at a far lower rate, or ask lr_find; warm-up and clip_norm help too."
    if f.broke_at is not None:
        what = f"the loss or the gradient stopped being finite at step {f.broke_step}"
        if movement.first_update_ratio > th.LONG_FIRST_STEP:
            what += f", after first steps of {movement.first_update_ratio:.2g} times the weights' "
            what += "own length"
        return Finding("diverging", "critical", what, advice, (f.broke_at / f.rows, 1.0))
    # Weights that hardly moved make no loss rise: that is the noise of the batches.
    path = movement.relative_path
    if path < th.DIVERGING_PATH or (math.isnan(path) and f.trend.flat):
        return None
    where = (levels.best_at, 1.0)
    if endless(f):
        what = f"the loss {went(levels.start, levels.end)}, which is no end"
        bound = "Look whether it has a lower bound, or a sign is wrong; where it has one, start "
        return Finding("diverging", "critical", what, bound + advice.removeprefix("Start "), WHOLE)
    # At a rate of 0, or without a gradient for most weights, the loss is that of other batches:
    # what rises within their noise has not risen.
    rests = movement.idle >= th.IDLE or movement.moving < th.MOVING
    if rests and levels.decrease_z > -th.REST_Z:
        return None
    # Nor do all steps together make it rise by more than they can have changed it.
    rise = (levels.end - levels.start) / levels.decrease
    if movement.reach < 1 and rise > movement.reach and not levels.runs_away:
        return None
    risen = levels.end - levels.start > th.DIVERGING_RISE * levels.decrease
    if risen and (levels.rise > th.DIVERGING_RANGE or levels.late_above_start):
        what = f"the loss ended at {beside(levels.end, levels.start)}"
        return Finding("diverging", "critical", what, advice, where)
    recovered = levels.peak <= th.DIVERGING_PEAK or levels.rise <= th.RECOVERED_RANGE
    if validation is not None and validation.above_start and not recovered:
        high, first = apart(validation.last, validation.first)
        what = f"the loss {went(levels.start, levels.highest)} and came back to {levels.end:.3g}, "
        what += f"and the validation loss ended at {high}, above its first value of {first}"
        return Finding("diverging", "critical", what, advice, where)
    return None


def idle(f: CurveFeatures) -> Finding | None:
    """The rate was 0 in much of the run: what the curve shows there is no learning."""
    share, start = f.movement.idle, f.movement.idle_from
    if share < th.IDLE:
        return None
    what = f"the rate was 0 in {percent(share)} of the run"
    at_end = start < 1 and share <= 1 - start + 1 / f.rows  # and not here and there
    if at_end:
        what += f", from {percent(start)} of it on" if start > 0 else ", from its start"
    advice = "Fix the schedule first: its length counts updates, not epochs, and has to reach the "
    advice += "end of the run."
    return Finding("too_low", "critical", what, advice, (start, 1.0) if at_end else WHOLE)


def unseen(f: CurveFeatures) -> Finding | None:
    """All steps together can have changed the loss by less than batches differ by."""
    movement, levels = f.movement, f.levels
    low, high = th.GRADIENT_KEPT
    kept = low < movement.gradient_ratio < high
    told = f.broke_at is not None or levels.runs_away or movement.idle >= th.IDLE
    if told or not kept or not movement.reach < 1 or settled(f) is not None:
        return None
    most = f"{movement.reach * levels.decrease:.2g}"
    what = f"all steps together can have changed the loss by {most} at most, where it differs by "
    what += f"{f.noise.swing * levels.decrease:.2g} from batch to batch, and the gradient is still "
    what += f"{movement.gradient_ratio:.0%} as long as at the start"
    return Finding(
        "too_low", "warning", what, "The steps are too short to be seen: raise the rate."
    )


def unmoved(f: CurveFeatures) -> Finding | None:
    """All steps together were too short to change the weights."""
    levels, trend, path = f.levels, f.trend, f.movement.relative_path
    rests = trend.late_decrease_z < th.REST_Z or (
        trend.late_decrease < th.REST_DECREASE
        and trend.extrapolated_decrease < th.REST_EXTRAPOLATED
    )
    settled = rests and levels.decrease_z > th.SETTLED_Z and levels.remaining <= th.SETTLED_LEVEL
    advice = "The steps are too short to get anywhere: raise the rate."
    if f.movement.no_gradient:
        return None  # no rate moves weights that have no gradient
    if math.isnan(path) and trend.flat:
        what = f"the loss has not moved from {levels.start:.3g} beyond its noise"
        return Finding("too_low", "warning", what, advice)
    if not path < th.SHORT_PATH or settled:
        return None
    what = f"all steps together moved the weights by {path:.2g} times their own length"
    if trend.late_decrease_z > th.FALLING_Z and levels.end < levels.start:
        what += ", and the loss is still falling (from {} to {})".format(
            *apart(levels.start, levels.end)
        )
    return Finding("too_low", "warning", what, advice)


def dead(f: CurveFeatures) -> Finding | None:
    """The gradient vanished far from the floor."""
    levels = f.levels
    if not f.movement.gradient_vanished or not levels.end > th.DEAD_LEVEL * levels.start > 0:
        return None
    what = f"the gradient vanished with the loss still at {levels.end:.3g}, as if units died"
    advice = "One step was too long: start again at a lower rate."
    return Finding("too_high", "warning", what, advice)


def _overshot(f: CurveFeatures) -> bool:
    """Whether the loss went far above its start, and has not come to a complete rest since."""
    v, peak = f.validation, f.levels.peak
    fell = v is not None and v.decrease > th.OVERSHOT_VALIDATION
    jumped = fell and peak > th.OVERSHOT_VALIDATION_PEAK
    return _harmed(f) or (f.noise.swing > th.OVERSHOT_SWING and (peak > th.OVERSHOT_PEAK or jumped))


def _harmed(f: CurveFeatures) -> bool:
    """Whether the loss went far above its start and what is validated never came back below that.

    Though the training rests by now, as where each row has got numbers of its own by heart.
    """
    v, levels = f.validation, f.levels
    if v is None or levels.peak <= th.OVERSHOT_PEAK:
        return False
    return levels.start < v.lowest and v.first < levels.highest  # of one scale with the training


def _late_decrease(f: CurveFeatures) -> float:
    """The share of the decrease made in the last half; 0 where noise could have made it."""
    return f.trend.late_decrease if f.trend.late_decrease_z > th.LATE_Z else 0.0


def _goes_on(f: CurveFeatures) -> bool:
    """Whether the loss falls, and as many steps again will gain by the shape of its decay."""
    return _late_decrease(f) > th.LATE_DECREASE and f.trend.extrapolated_decrease > 0


def too_low(f: CurveFeatures) -> Finding | None:
    """Much still falls, at a short path of the weights and with little jitter."""
    path = f.movement.relative_path
    path = 1.0 if math.isnan(path) else path
    # The nearer to the limits of stability and noise, the more is to be had from time alone.
    limit = th.TOO_LOW_DECREASE * math.sqrt(path * max(f.noise.jitter, th.LEAST_JITTER))
    late = _late_decrease(f)
    if _overshot(f) or late <= limit or settled(f) is not None:
        return None
    what = f"the loss {went(f.levels.start, f.levels.end)} and still falls smoothly, by "
    what += f"{late * f.levels.decrease:.2g} in the last half of the run: it has not converged"
    ratio, (low, high) = f.movement.gradient_ratio, th.GRADIENT_KEPT
    if low < ratio < high:
        what += f"; the gradient is still {ratio:.0%} as long as at the start"
    what += early(f)
    advice = "The steps go the right way but are too short: raise the rate."
    return Finding("too_low", "warning", what, advice, LAST_HALF)


def too_high(f: CurveFeatures) -> Finding | None:
    """The loss overshot, swings far from the floor, or lost what it had reached."""
    levels, trend, noise, movement = f.levels, f.trend, f.noise, f.movement
    signs: list[tuple[str, tuple[float, float]]] = []
    calm = noise.jitter <= th.REBOUND_JITTER
    clear = trend.rebound_z > (th.REBOUND_CALM_Z if calm else th.REBOUND_Z)
    if trend.rebound > th.REBOUND and clear:
        what = "the loss ended at {}, above the {} it had reached".format(
            *apart(levels.end, levels.best)
        )
        signs.append((what, (levels.best_at, 1.0)))
    harmed = _harmed(f)
    restless = (
        harmed or noise.swing > th.OVERSHOT_RESTLESS_SWING or levels.remaining > th.OVERSHOT_LEVEL
    )
    if _overshot(f) and restless:
        what = f"the loss {went(levels.start, levels.highest)}, {percent(levels.highest_at)} into "
        what += "the run"
        if harmed and f.validation is not None:
            what += (
                f", and the validation loss, {f.validation.lowest:.3g} at best, never came back "
                f"below {levels.start:.3g}"
            )
        signs.append((what, (0.0, levels.highest_at)))
    if _bounces(f) and levels.remaining > th.SWING_LEVEL:
        what = f"the loss swings by {noise.swing * levels.decrease:.2g} at the end, "
        fell = f"{share_of(noise.swing)} its whole decrease"
        what += fell if levels.fell else f"and never fell clearly below {levels.start:.3g}"
        signs.append((what, LAST_QUARTER))
    if movement.sign_flip_rate > th.SIGN_FLIPS:
        what = f"{percent(movement.sign_flip_rate)} of the gradient's signs change at every step"
        signs.append((what, LAST_QUARTER))
    if movement.lr_times_sharpness > th.STABILITY and _late_decrease(f) < th.REST_DECREASE:
        what = "the rate times the sharpness is {}, above the limit of stability, {}".format(
            *apart(movement.lr_times_sharpness, th.STABILITY)
        )
        signs.append((what, LAST_QUARTER))
    if not signs:
        return None
    advice = "The steps overshoot: lower the rate, or let it decay."
    evidence = ", and ".join(what for what, _ in signs)
    return Finding("too_high", "warning", evidence, advice, signs[0][1])


def of_batches(f: CurveFeatures) -> bool:
    """Whether the loss swings by far more than a step can change it: batches differ."""
    return f.noise.swing > th.SWING_REACH * f.movement.late_reach


def _bounces(f: CurveFeatures) -> bool:
    """Whether the loss moves to and fro, and not only because batches differ: the weights do."""
    noise = f.noise
    calm = noise.gradient_jitter <= th.SWING_GRADIENT_JITTER
    calm = calm or of_batches(f)
    moves = noise.swing > th.SWING and noise.jitter > th.SWING_JITTER and not calm
    return moves and not _goes_on(f)


def plateau(f: CurveFeatures) -> Finding | None:
    """The loss neither falls nor rests, far below its start."""
    if not _bounces(f):
        return None
    swing = f"{f.noise.swing * f.levels.decrease:.2g}"
    if f.levels.end < f.levels.start:
        start, end = apart(f.levels.start, f.levels.end)
        what = f"the loss came down from {start} but now swings around {end}, by {swing}"
    else:
        what = f"the loss swings by {swing} around {beside(f.levels.end, f.levels.start)}"
    advice = "Let the rate decay to 0 over the steps that are left, or lower the rate: the swings "
    advice += "shrink with it, and the loss falls again."
    return Finding("plateau", "warning", what, advice, LAST_HALF)


def healthy(f: CurveFeatures) -> Finding | None:
    """The loss falls and will go on, unless it is not below its start, or the validation above."""
    if not _goes_on(f):
        return None
    levels = f.levels
    if levels.decrease_z < th.START_Z:
        if of_batches(f):
            return None
        end, start = apart(levels.end, levels.start)
        below = "not clearly below" if levels.end < levels.start else "not below"
        what = f"the loss ended at {end}, {below} its start of {start}"
        advice = "The steps undo what they learn: lower the rate."
        return Finding("too_high", "warning", what, advice, WHOLE)
    useless = generalises_nothing(f)
    if useless is not None:
        return useless
    return settled(f) or _falling(f)


def _falling(f: CurveFeatures) -> Finding:
    """Good news: by how much it fell of late, and what may still come."""
    levels, late = f.levels, f.trend.late_decrease * f.levels.decrease
    what = f"the loss {went(levels.start, levels.end)}, by {late:.2g} in the last "
    ended = f.movement.last_rate <= th.DECAYED
    what += "half of the run"
    what += "" if ended else more_told(f)
    what += early(f)
    advice = "Carry on; a decay of the rate at the end usually gains a little."
    if ended:
        what += f"; the rate came down to {percent(f.movement.last_rate)} of its highest"
        advice = "The schedule has come to its end: a longer one may fall further."
    if f.stop is not None:
        advice = "More patience may gain more, and so may a decay of the rate at the end."
    return Finding("healthy", "info", what, advice, LAST_HALF)


def _creeping(f: CurveFeatures) -> Finding:
    """A loss that is nearly at rest and still falls beyond its noise."""
    levels = f.levels
    what = f"the loss {went(levels.start, levels.end)} and creeps on: {slope_told(f)}{more_told(f)}"
    advice = "Carry on if that is worth the steps; a decay of the rate at the end usually gains "
    return Finding("healthy", "info", what, f"{advice}a little.", LAST_HALF)


def at_rest(f: CurveFeatures) -> list[Finding]:
    """What a loss at rest means; near the line, the other reading too."""
    useless = generalises_nothing(f)
    if useless is not None:
        return [useless]
    levels, v, path = f.levels, f.validation, f.movement.relative_path
    share = levels.end_share
    level, high = (
        f"the loss has settled at {levels.end:.3g}",
        f"still {percent(share)} of its start",
    )
    if share > th.REST_LEVEL and path < th.REST_PATH:
        what = f"{level}, {high}, but all steps together moved the weights by only "
        what += f"{path:.2g} times their length"
        advice = "Try a higher rate before a larger model."
        return [Finding("too_low", "warning", what, advice)]
    if creeps(f):
        return [settled(f) or _creeping(f)]
    why = f"the loss has settled at {beside(levels.end, levels.start)}"
    if f.movement.gradient_ratio < th.GRADIENT_FELL:
        why += (
            f", and the gradient norm fell to {percent(f.movement.gradient_ratio)} of what it was"
        )
    advice = "Stop here: longer training at this rate gains nothing to speak of."
    found = [Finding("converged", "info", why, advice, LAST_HALF)]
    least, most = th.REST_LEVEL_BOTH
    if share > least and (v is None or v.end < th.REST_VALIDATION * levels.end):
        why = f"{level}, {high}"
        if v is not None:
            why += ", and the validation loss beside it"
        advice = "This model may not be able to do better: try a larger one, or better inputs."
        clear = share > th.REST_LEVEL
        severity = "warning" if clear else "info"
        under = Finding("underfitting", severity, why, advice, LAST_HALF)
        found.insert(0 if clear else 1, under)
    if slope := slope_told(f):
        found[0] = replace(found[0], evidence=f"{found[0].evidence}; {slope}")
    # Both are said where noise in the data may explain what is left.
    return found if least < share < most else found[:1]


def judge(f: CurveFeatures) -> list[Finding]:
    """What the checks find, the most telling first; the first one is the verdict."""
    hidden = unseen(f)
    return seen(f) if hidden is None else [hidden]


def seen(f: CurveFeatures) -> list[Finding]:
    """The same of a run whose steps are long enough to be seen (`unseen` has nothing to say)."""
    # Where the weights stayed the loss has nothing to tell but the noise of the batches.
    alone = diverging(f) or idle(f) or unmoved(f)
    if alone is not None:
        return [alone]
    # A decrease that goes on counts for more than swings, unless the run overshot.
    last = (too_high, plateau, healthy) if _overshot(f) else (healthy, too_high, plateau)
    turned = (overfitting, metric_turned, few_validations, generalises_nothing)
    checks: tuple[Check, ...] = (dead, *turned, too_low, *last)
    found: list[Finding] = []
    for check in checks:
        finding = check(f)
        told = {other.kind for other in found}
        if finding is None or finding.kind in told:
            continue
        # The same swings are told of once, and good news does not follow bad.
        again = finding.kind == "plateau" and "too_high" in told
        if not again and not (told and finding.kind in ("healthy", "converged")):
            found.append(finding)
    # What is no more than a hint does not decide.
    said = ("healthy", "converged")
    hints = [
        finding for finding in found if finding.severity == "info" and finding.kind not in said
    ]
    found = [finding for finding in found if finding not in hints] or at_rest(f)
    return [*found, *hints, *averaging(f)]


def averaging(f: CurveFeatures) -> list[Finding]:
    """The validation loss of averaged weights that lag behind says nothing of the rate."""
    v = f.averaged_validation
    if v is None:
        return []
    what = (
        f"the validation loss, of the weights that {f.averaged} averages, {went(v.first, v.last)}"
    )
    what += f" while the training loss {went(f.levels.start, f.levels.end)}: the average lags"
    advice = "Lower its decay, to a memory, 1 / (1 - decay), of a tenth of the run's steps."
    return [Finding("lagging_average", "warning", what, advice)]
