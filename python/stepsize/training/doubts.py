"""Before a run's history may advise another rate: whether gradients and data are sound.

Noise of the batches hides a wrong gradient in a run's own curve, where a few calls on one batch
show it. They are made after the last step, and only where `diagnose` would speak of the rate: at
the parameters of the first step, since a wrong gradient may have led to infinity, and a right one
to where it has no digits left. Where the former show nothing, those of the last step are asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize.arrays import Nest, ValueAndGrad, copy, flatten, map_leaves, where_not_finite
from stepsize.diagnosis import diagnosis_or_reason
from stepsize.gradients.calls import Calls
from stepsize.gradients.screen import wrong_gradients
from stepsize.training.batches import ArrayBatches
from stepsize.training.run import Run

MOST_KEPT = 2**28  # bytes of parameters whose start is kept through a run
NO_ADVICE = ("healthy", "converged", "overfitting", "not_enough_data")


def kept_start(params: Nest) -> Nest:
    """A copy of the parameters for the check after the run, None where it would be too large."""
    size = sum(np.asarray(leaf).nbytes for leaf in flatten(params)[0] if leaf is not None)
    return copy(params) if size <= MOST_KEPT else None


def look_for_wrong_gradients(run: Run, value_and_grad: ValueAndGrad, start: Nest) -> None:
    """Write into ``history.meta["checked"]`` what a check after the run has shown.

    `start` is a copy of the parameters that the run began with, None where none was kept.
    """
    history = run.history
    history.meta.pop("checked", None)
    ranks = run.team is not None and not isinstance(run.batches, ArrayBatches)
    if run.grads is None or ranks:  # no step was made, of a batch that may be None itself
        return
    found = diagnosis_or_reason(history)
    if isinstance(found, str):
        return
    if found.mismatch is not None or (found.verdict in NO_ADVICE and found.suggested_lr is None):
        return
    batch = run.batch[0] if run.accumulate > 1 else run.batch
    at, wrong, calls = "start", "", 0
    if start is not None:
        wrong, calls = wrong_gradients(value_and_grad, start, batch, run.optimizer)
    if not wrong:
        at = "end"
        wrong, more = wrong_gradients(value_and_grad, run.params, batch, run.optimizer, start=start)
        calls += more
    if calls:
        history.meta["checked"] = {"wrong": wrong, "calls": calls, "at": at}


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
