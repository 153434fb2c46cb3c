"""Ending a run that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import MonitorCallback
from stepsize.serialization import states
from stepsize.validation import number, truth, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["EarlyStopping"]


class EarlyStopping(MonitorCallback):
    """Stop when a metric has not improved for a while.

    Args:
        monitor: ``loss`` (the training loss, averaged over the epoch) or a validation metric.
        patience: stop after so many values in a row without improvement; validations that do not
            measure the metric do not count. None never stops, and only keeps the best parameters.
        min_delta: an improvement is a change of more than this.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is; ``"auto"`` infers it from the
            name of the metric, and asks where that tells nothing.
        restore_best: restore the best parameters at the end of the run. Where the optimizer keeps
            an average, as `EMA` and schedule-free ones do, that is what was measured: it is then
            in the parameters, and what ``averaged()`` gives. A checkpoint holds the best state
            beside the latest one, from which a resumed run continues.
        start_from_epoch: ignore values before so many epochs are completed.

    Attributes:
        best: the best value so far.
        best_step: the step at which it was measured, None before the first.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int | None = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode)
        if patience is not None:
            patience = whole("EarlyStopping: patience", patience, 0)
        self.patience = patience
        self.min_delta = number("EarlyStopping: min_delta", min_delta, 0.0, high_open=False)
        self.restore_best = truth("EarlyStopping: restore_best", restore_best)
        self.start_from_epoch = whole("EarlyStopping: start_from_epoch", start_from_epoch, 0)
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_step: int | None = None
        self._failures = 0
        self._values = 0
        self._params: list[Any] | None = None
        self._state: dict[str, Any] | None = None
        self._due = False

    def on_start(self, run: Run) -> None:
        """Reset at step 0; a resumed run continues."""
        if run.step == 0:
            self.reset()

    def on_step(self, run: Run) -> None:
        """Keep the state of a best value, once the average is out of the parameters again."""
        self._keep_state(run)

    def on_epoch(self, run: Run) -> None:
        """Keep the state of a best value, or take a training metric."""
        self._keep_state(run)
        super().on_epoch(run)
        self._keep_state(run)

    def on_value(self, run: Run, value: float) -> None:
        """Keep the parameters of the best value; stop when patience runs out."""
        epoch = run.epoch - (not self.monitor.startswith("val_"))  # the one that was measured
        if epoch < self.start_from_epoch:
            return
        self._values += 1
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_step, self._failures = value, run.step, 0
            if self.restore_best and hasattr(run.optimizer, "averaged"):
                self._due = True
            elif self.restore_best:
                self._params = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
            return
        self._failures += 1
        if self.patience is None or self._failures < max(self.patience, 1):
            return
        if self.best_step is None:
            run.stop(f"{self.monitor} was {value} at each of {self._values} measurements")
        else:
            run.stop(
                f"{self.monitor} has not improved on {self.best:.4g} since step {self.best_step}"
            )

    def _keep_state(self, run: Run) -> None:
        """Parameters and optimizer together, whose average is that of the best value."""
        if self._due:
            self._due = False
            self._params = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
            self._state = run.optimizer.state_dict()

    def on_end(self, run: Run) -> None:
        """Restore the best parameters."""
        if run.error is not None or not self.restore_best or self._params is None:
            return
        self._keep_state(run)
        if self._state is not None:
            run.optimizer.load_state_dict(self._state)
        _write(run.params, self._params)
        if self._state is not None:
            _settle(run.optimizer, run.params)

    def state_dict(self) -> dict[str, Any]:
        """The best value and parameters, and how long ago they were."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "failures": self._failures,
            "values": self._values,
            "params": self._params,
            "optimizer": self._state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        found = states.checked("EarlyStopping", state, _STATE, {"values": 0, "optimizer": None})
        self.best, self.best_step = found["best"], found["best_step"]
        self._failures, self._params = found["failures"], found["params"]
        self._values, self._state = found["values"], found["optimizer"]
        self._due = False


_STATE = {
    "best": states.value,
    "best_step": states.optional(states.count),
    "failures": states.count,
    "values": states.count,
    "params": states.optional(states.leaves),
    "optimizer": states.optional(states.mapping),
}


def _write(params: Any, values: list[Any]) -> None:
    for leaf, value in zip(arrays.flatten(params)[0], values, strict=True):
        leaf[...] = value


def _settle(optimizer: Any, params: Any) -> None:
    """Put the average into the parameters, such that the average of the optimizer stays it."""
    trained = [np.array(leaf) for leaf in arrays.flatten(params)[0]]
    with optimizer.averaged():
        average = [np.array(leaf) for leaf in arrays.flatten(params)[0]]
    _write(params, average)
    if _averages_to(optimizer, params, average):
        return
    # A schedule-free rule: its average lies between the parameters and z, so z moves there too.
    state = optimizer.state_dict()
    for slots, value in zip(state["state"].values(), average, strict=True):
        if "z" in slots and slots["z"].dtype == value.dtype:
            slots["z"][...] = value
    before = optimizer.state_dict()
    optimizer.load_state_dict(state)
    if not _averages_to(optimizer, params, average):
        optimizer.load_state_dict(before)
        _write(params, trained)


def _averages_to(optimizer: Any, params: Any, average: list[Any]) -> bool:
    with optimizer.averaged():
        return all(map(np.array_equal, arrays.flatten(params)[0], average))
