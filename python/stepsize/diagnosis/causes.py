"""Losses that are not finite for another reason than the rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.verdicts import Finding


def not_the_rate(history: Any, f: CurveFeatures) -> Finding | None:
    """The finding that a run stopped for its data or its start, by what `fit` saw, else None.

    No other rate would have made it go on.
    """
    meta = getattr(history, "meta", None)
    if f.broke_at is None or not isinstance(meta, Mapping) or "rule" not in meta:
        return None
    what = f"the loss or the gradient stopped being finite at step {f.broke_step}"
    words = meta.get("unsound")
    if isinstance(words, str) and words:
        what += f", whose batch {words}; with 0 in its place they are finite"
        advice = "Mend the data, or leave such rows out: no other step was at fault."
        return Finding("diverging", "critical", what, advice, (f.broke_at / f.rows, 1.0))
    if f.broke_at > 0:
        return None
    what = "the loss or the gradient was not finite at the first step, before any update"
    skipped = meta.get("skipped", 0)
    if isinstance(skipped, int) and skipped >= f.rows:
        what = f"no gradient of {f.rows} steps was finite, so that no update was made"
    advice = "Look at the starting parameters and at the first batch: no update has changed them."
    return Finding("diverging", "critical", what, advice)
