"""What is wrong with a run: the features of its curves, the checks, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsize.diagnosis.checks import judge
from stepsize.diagnosis.measurement import measure, series
from stepsize.diagnosis.thresholds import FEWEST_STEPS
from stepsize.diagnosis.verdicts import VERDICTS, Diagnosis, Finding, Verdict, next_rate, watched
from stepsize.diagnosis.wording import words

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
    features = measure(history)
    found = judge(features)
    verdict = found[0].kind
    if features.steps < FEWEST_STEPS and verdict != "diverging":
        short = Finding(
            "not_enough_data",
            "info",
            f"the history has {features.steps} losses",
            f"Train for at least {FEWEST_STEPS} steps and ask again.",
        )
        return Diagnosis("healthy", (short,), None, enough_data=False)
    return Diagnosis(verdict, tuple(found), next_rate(verdict, features))
