"""Before a run's history may advise another rate: whether gradients and data are sound.

Noise of the batches hides a wrong gradient in a run's own curve, where a few calls on one batch
show it. They are made after the last step, and only where `diagnose` would speak of the rate.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.arrays import ValueAndGrad, map_leaves, where_not_finite
from stepsize.diagnosis import diagnose
from stepsize.gradients.calls import Calls
from stepsize.gradients.screen import wrong_gradients
from stepsize.training.run import Run

FEWEST_STEPS = 20  # below it there is no verdict
NO_ADVICE = ("healthy", "converged", "overfitting", "not_enough_data")


def look_for_wrong_gradients(run: Run, value_and_grad: ValueAndGrad) -> None:
    """Write into ``history.meta["checked"]`` what a check at the end of the run has shown."""
    history = run.history
    history.meta.pop("checked", None)
    closed = getattr(run.optimizer, "needs_closure", False)
    if closed or run.batch is None or len(history["loss"]) < FEWEST_STEPS:
        return
    try:
        found = diagnose(history)
    except (TypeError, ValueError):  # a history that `diagnose` has no word for
        return
    if found.mismatch is not None or (found.verdict in NO_ADVICE and found.suggested_lr is None):
        return
    batch = run.batch[0] if run.accumulate > 1 else run.batch
    wrong, calls = wrong_gradients(value_and_grad, run.params, batch, run.optimizer)
    if calls:
        history.meta["checked"] = {"wrong": wrong, "calls": calls}


def look_for_unsound_data(run: Run, value_and_grad: ValueAndGrad) -> None:
    """Write into ``history.meta["unsound"]`` what in its last batch made a run stop, in words.

    That is asked of the function: with 0 in place of what is not finite in the batch the loss is a
    number, at the same parameters. A function that leaves such rows out itself is not blamed on
    them, since at parameters that have diverged nothing is finite.
    """
    run.history.meta.pop("unsound", None)
    try:
        words = where_not_finite(run.batch)
        if not words:
            return
        with np.errstate(all="ignore"):
            calls = Calls(value_and_grad, run.params, map_leaves(_zeroed, run.batch))
            try:
                answer = calls.at(calls.start)
            finally:
                calls.rewind()
    except Exception:  # the function has no value there, and what is known stays known
        return
    if math.isfinite(answer.loss) and not answer.broken:
        run.history.meta["unsound"] = words
        run.history.stopped = f"{run.history.stopped}; its batch {words}"


def _zeroed(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc":
        return np.where(np.isfinite(leaf), leaf, 0).astype(leaf.dtype)
    return 0.0 if isinstance(leaf, float) and not math.isfinite(leaf) else leaf
