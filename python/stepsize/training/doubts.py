"""Before a run's history may advise another rate: whether the gradients fit the loss.

Noise of the batches hides a wrong gradient in a run's own curve, where a few calls on one batch
show it. They are made after the last step, and only where `diagnose` would speak of the rate.
"""

from __future__ import annotations

from stepsize.arrays import ValueAndGrad
from stepsize.diagnosis import diagnose
from stepsize.gradients.screen import wrong_gradients
from stepsize.training.batches import ArrayBatches
from stepsize.training.run import Run

FEWEST_STEPS = 20  # below it there is no verdict
NO_ADVICE = ("healthy", "converged", "overfitting", "not_enough_data")


def look_for_wrong_gradients(run: Run, value_and_grad: ValueAndGrad) -> None:
    """Write into ``history.meta["checked"]`` what a check at the end of the run has shown."""
    history = run.history
    history.meta.pop("checked", None)
    closed = getattr(run.optimizer, "needs_closure", False)
    ranks = run.team is not None and not isinstance(run.batches, ArrayBatches)
    if closed or ranks or run.batch is None or len(history["loss"]) < FEWEST_STEPS:
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
