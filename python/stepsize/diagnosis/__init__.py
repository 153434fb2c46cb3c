"""What is wrong with a run: the features of its curves, the checks, the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stepsize.diagnosis.ahead import (
    Asked,
    Experiment,
    advice,
    ahead_of,
    is_experiment,
    is_void,
    outrun,
    rate_after,
    revised,
)
from stepsize.diagnosis.calibration import after_experiment, at_least, probabilities, without
from stepsize.diagnosis.causes import not_the_rate
from stepsize.diagnosis.checks import seen, unseen
from stepsize.diagnosis.doubt import cost_of, in_doubt
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.floor import endless, with_floor
from stepsize.diagnosis.generalisation import settled
from stepsize.diagnosis.holes import with_holes
from stepsize.diagnosis.likelier import by_the_curves, with_branches
from stepsize.diagnosis.measurement import measure
from stepsize.diagnosis.mismatch import gradient_mismatch, without_advice, zero_gradients
from stepsize.diagnosis.reading import read
from stepsize.diagnosis.silent import dead_units
from stepsize.diagnosis.thresholds import (
    FEWEST_LOSSES,
    FEWEST_STEPS,
    HIDDEN_SURE,
    IDLE,
    OUTRUN_SURE,
)
from stepsize.diagnosis.verdicts import (
    VERDICTS,
    Diagnosis,
    Finding,
    Verdict,
    is_usual,
    lowered_in_doubt,
    next_rate,
    to_find,
    watched,
)
from stepsize.diagnosis.wording import went, words
from stepsize.optimizers.ascent import refuse_run_of_ascent
from stepsize.validation import counted

__all__ = [
    "FEWEST_STEPS",
    "VERDICTS",
    "Diagnosis",
    "Experiment",
    "Finding",
    "Verdict",
    "diagnose",
    "diagnosis_or_reason",
    "watched",
    "words",
]


def diagnose(history: Any, *, what_if: Experiment | Asked | None = None) -> Diagnosis:
    """Judge a run by its curves, and by an experiment on it where there is one.

    `history` maps names to arrays of one row per step, NaN where a series has no value; a plain row
    of numbers is taken for the losses. `loss` is needed; `lr, val_loss, grad_norm, update_ratio`
    are used when they are there, as are `step` where not every step has a row, and a `val_` metric
    that is better when higher, such as `val_accuracy`, and what early stopping said at the end.
    With fewer than 20 losses the verdict is "not_enough_data", unless they diverge.

    A history of `fit` also holds what the gradients predicted for some steps. Where the loss did
    something else, beyond noise and curvature, the first finding is a `gradient_mismatch` with the
    numbers, and nothing is said of the rate: `check_gradients` tells which gradient is wrong. Where
    half of the units of a layer or more get no gradient it is `dead_units`, and where a loss below
    0 falls along a line `no_floor`, which keeps the next rate: one that is far too low looks alike.

    `what_if` is what `ss.what_if` returned for the state in which the run ended, or a function
    without arguments that returns it, called only where the curves leave doubt, since its branches
    cost gradients. It may return None, where it would rather not. What the curves show beyond doubt
    no branch changes, unless the loss is not finite at the present rate, or a higher one wins by
    much.

    Raises TypeError for what is no history or no experiment, ValueError when there is no `loss`,
    nothing in it, when series are no numbers or not equally long, or when the optimizer climbed.

    >>> diagnosis = diagnose({"loss": [2.0 - 0.001 * k for k in range(100)], "lr": [0.01] * 100})
    >>> diagnosis.verdict, diagnosis.suggested_lr
    ('too_low', 0.03)
    """
    if what_if is not None and not callable(what_if):
        _require_experiment(what_if)
    refuse_run_of_ascent("diagnose", getattr(history, "meta", None))
    columns = read(history)
    features = measure(history, columns)
    found = with_floor(features, _diagnosed(history, features, what_if))
    return with_holes(columns, getattr(history, "meta", None), found)


def diagnosis_or_reason(history: Any) -> Diagnosis | str:
    """The diagnosis by the curves, or why there is none: of an optimizer that climbs, for one."""
    try:
        return diagnose(history)
    except (TypeError, ValueError) as error:
        return str(error)


def _diagnosed(
    history: Any, features: CurveFeatures, what_if: Experiment | Asked | None
) -> Diagnosis:
    """The diagnosis by the losses that are finite."""
    hidden = unseen(features)
    found = seen(features) if hidden is None else [hidden]
    verdict = found[0].kind
    shares = probabilities(_as_validated(features, verdict), verdict)
    if hidden is not None:
        shares = without(shares, ("diverging", "too_high", "plateau"))
        if features.steps >= FEWEST_STEPS:
            shares = at_least(shares, verdict, HIDDEN_SURE)
    if verdict == "diverging" and (features.broke_at is not None or endless(features)):
        shares = at_least(shares, verdict, OUTRUN_SURE)
    broke = features.broke_at is not None or features.levels.runs_away
    if features.steps < FEWEST_STEPS and not (verdict == "diverging" and broke):
        short = _too_short(features, found[0])
        return Diagnosis(short[0].kind, short, None, False, shares)
    if verdict == "diverging" and (cause := not_the_rate(history, features)) is not None:
        return Diagnosis(verdict, (cause, *found[1:]), None, probabilities=shares)
    checked, found = found, by_the_curves(found, features, shares)
    verdict = found[0].kind
    silent, most = dead_units(history)
    most = most and verdict != "diverging"
    before = gradient_mismatch(history) or (silent if most else None)
    if before is not None:
        told = without_advice(zero_gradients(history, found))
        return Diagnosis(verdict, (before, *told), None, probabilities=shares)
    also = [silent] if silent is not None else []
    found = [*zero_gradients(history, found), *also]
    doubtful = in_doubt(features, verdict, shares)
    experiment = _asked(what_if, doubtful)
    if experiment is None or is_void(experiment):
        found, rate = lowered_in_doubt(found, shares, next_rate(verdict, features))
        if rate is not None and not is_usual(rate):
            found, rate = [*found, to_find(rate, features)], None
        cost = cost_of(features.steps) if doubtful and experiment is None else None
        return Diagnosis(verdict, tuple(found), rate, True, shares, cost)
    if doubtful:  # the branches are asked what the checks found, and the likeliest comes after
        found = [*zero_gradients(history, checked), *also]
    return _tried(features, found, shares, experiment, doubtful)


def _require_experiment(found: Any) -> None:
    if not is_experiment(found):
        raise TypeError(
            "diagnose: what_if must be what ss.what_if returned, or a function without arguments "
            f"that returns it, got {found!r:.80}"
        )


def _asked(what_if: Experiment | Asked | None, doubtful: bool) -> Experiment | None:
    """The experiment given, or that of the function where the curves leave doubt."""
    if what_if is None or not callable(what_if):
        return what_if
    found = what_if() if doubtful else None
    if found is not None:
        _require_experiment(found)
    return found


def _tried(
    features: CurveFeatures,
    found: list[Finding],
    shares: dict[str, float],
    experiment: Experiment,
    doubtful: bool,
) -> Diagnosis:
    """The diagnosis of curves and branches together."""
    ahead, before = ahead_of(experiment, features), found
    found = revised(before, features, ahead, experiment, doubtful=doubtful)
    won = outrun(before, features, ahead, experiment) is not None
    if doubtful or ahead.broke:
        shares = after_experiment(shares, found[0].kind)
    if won:
        shares = at_least(shares, found[0].kind, OUTRUN_SURE)
    elif doubtful and not ahead.broke:
        found = with_branches(found, before, shares, advice(experiment))
    verdict = found[0].kind
    rate = rate_after(verdict, features, experiment)
    if rate is not None and not is_usual(rate):
        found, rate = [*found, to_find(rate, features)], None
    return Diagnosis(verdict, tuple(found), rate, True, shares)


def _as_validated(features: CurveFeatures, verdict: str) -> CurveFeatures:
    """The features of a run at rest, where the validation says so and the loss does not.

    The labelled runs behind the probabilities had no metric but the loss.
    """
    if verdict != "converged" or settled(features) is None:
        return features
    trend = replace(
        features.trend, late_decrease=0.0, late_decrease_z=0.0, extrapolated_decrease=0.0
    )
    return replace(features, trend=trend)


def _too_short(features: CurveFeatures, first: Finding) -> tuple[Finding, Finding]:
    losses = counted(features.steps, "loss")
    short = Finding(
        "not_enough_data",
        "info",
        f"the history has {losses}",
        f"Train for at least {FEWEST_STEPS} steps and ask again.",
    )
    evidence = first.evidence
    if features.steps < FEWEST_LOSSES and features.movement.idle < IDLE:
        start, end = (f"{level:.4g}" for level in (features.levels.start, features.levels.end))
        evidence = f"the loss {went(float(start), float(end))}"
        if features.steps == 1:
            evidence = f"the loss was {end}"
    return short, replace(first, severity="info", evidence=evidence, advice="")
