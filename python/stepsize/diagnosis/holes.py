"""Losses that were not finite inside of a run which went on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.diagnosis.calibration import after_experiment
from stepsize.diagnosis.verdicts import Diagnosis, Finding
from stepsize.validation import counted


def with_holes(columns: Mapping[str, Curve], meta: Any, found: Diagnosis) -> Diagnosis:
    """The diagnosis with a word on such losses; where one was infinite, no rate is to be raised.

    NaN counts where `fit` wrote the history, as ``meta`` tells; in others it is a row without a
    value.
    """
    loss = columns["loss"]
    finite = np.flatnonzero(np.isfinite(loss))
    if found.verdict == "diverging" or not len(finite):
        return found
    inside = loss[: finite[-1]]
    trained = isinstance(meta, Mapping) and "rule" in meta
    lost = np.flatnonzero(np.isinf(inside) | (trained & np.isnan(inside)))
    if not len(lost):
        return found
    row = int(lost[0])
    steps = columns.get("step")
    known = steps is not None and np.isfinite(steps[row])
    step = int(steps[row]) if steps is not None and known else row + 1
    what = f"the loss was {loss[row]} at step {step}, and finite again after it"
    if len(lost) > 1:
        what = f"the loss was not finite in {counted(len(lost), 'row')}, first {loss[row]} at step "
        what += f"{step}, and finite again after"
    advice = "Look at the batch of that step; where it is sound, lower the rate or give clip_norm."
    raising = found.verdict == "too_low" and bool(np.isinf(inside[lost]).any())
    kind = "too_high" if raising else "nonfinite"
    hole = Finding(kind, "warning", what, advice, (row / len(loss), (row + 1) / len(loss)))
    if not raising:
        return replace(found, findings=(*found.findings, hole))
    others = tuple(one for one in found.findings if one.kind != "too_low")
    return replace(
        found,
        verdict="too_high",
        findings=(hole, *others),
        suggested_lr=None,
        probabilities=after_experiment(found.probabilities, "too_high"),
    )
