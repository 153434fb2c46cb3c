"""What is wrong with a run: the features of its curves, the checks, the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stepsize.diagnosis.calibration import probabilities
from stepsize.diagnosis.checks import judge
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.generalisation import settled
from stepsize.diagnosis.measurement import measure
from stepsize.diagnosis.mismatch import gradient_mismatch, without_advice, zero_gradients
from stepsize.diagnosis.thresholds import FEWEST_LOSSES, FEWEST_STEPS, IDLE
from stepsize.diagnosis.verdicts import (
    VERDICTS,
    Diagnosis,
    Finding,
    Verdict,
    is_usual,
    next_rate,
    to_find,
    watched,
)
from stepsize.diagnosis.wording import went, words
from stepsize.validation import counted

__all__ = [
    "FEWEST_STEPS",
    "VERDICTS",
    "Diagnosis",
    "Finding",
    "Verdict",
    "diagnose",
    "watched",
    "words",
]


def diagnose(history: Any) -> Diagnosis:
    """Judge a run by its curves.

    `history` maps names to arrays of one row per step, NaN where a series has no value; a plain row
    of numbers is taken for the losses. `loss` is needed; `lr, val_loss, grad_norm, update_ratio`
    are used when they are there, as are `step` where not every step has a row, and a `val_` metric
    that is better when higher, such as `val_accuracy`, and what early stopping said at the end.
    With fewer than 20 losses the verdict is "not_enough_data", unless they diverge.

    A history of `fit` also holds what the gradients predicted for some steps. Where the loss did
    something else, beyond noise and curvature, the first finding is a `gradient_mismatch` with the
    numbers, and nothing is said of the rate: `check_gradients` tells which gradient is wrong.

    Raises TypeError for what is no history, ValueError when there is no `loss`, nothing in it, or
    when series are no numbers or not equally long.

    >>> diagnosis = diagnose({"loss": [2.0 - 0.001 * k for k in range(100)], "lr": [0.01] * 100})
    >>> diagnosis.verdict, diagnosis.suggested_lr
    ('too_low', 0.03)
    """
    features = measure(history)
    found = judge(features)
    verdict = found[0].kind
    shares = probabilities(_as_validated(features, verdict), verdict)
    if features.steps < FEWEST_STEPS and verdict != "diverging":
        short = _too_short(features, found[0])
        return Diagnosis(short[0].kind, short, None, False, shares)
    if (mismatch := gradient_mismatch(history)) is not None:
        return Diagnosis(verdict, (mismatch, *without_advice(found)), None, probabilities=shares)
    found = zero_gradients(history, found)
    rate = next_rate(verdict, features)
    if rate is not None and not is_usual(rate):
        found, rate = [*found, to_find(rate, features)], None
    return Diagnosis(verdict, tuple(found), rate, probabilities=shares)


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
