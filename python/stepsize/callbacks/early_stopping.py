"""Ending a run that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import MonitorCallback
from stepsize.validation import whole

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["EarlyStopping"]


class EarlyStopping(MonitorCallback):
    """Stop when a metric has not improved for a while.

    Args:
        monitor: ``loss`` (the training loss, averaged over the epoch) or a validation metric.
        patience: stop after so many values in a row without improvement. None never stops, and only
            keeps the best parameters.
        min_delta: an improvement is a change of more than this.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger is.
        restore_best: restore the best parameters at the end of the run. A checkpoint holds them
            beside the latest ones, from which a resumed run continues.

    Attributes:
        best: the best value so far.
        best_step: the step at which it was measured, None before the first.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int | None = 10,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ):
        super().__init__(monitor, mode)
        if patience is not None:
            patience = whole("EarlyStopping: patience", patience, 0)
        if not min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta must not be negative, got {min_delta}")
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_step: int | None = None
        self._failures = 0
        self._params: list[Any] | None = None

    def on_start(self, run: Run) -> None:
        """Reset at step 0; a resumed run continues."""
        if run.step == 0:
            self.reset()

    def on_value(self, run: Run, value: float) -> None:
        """Keep the parameters of the best value; stop when patience runs out."""
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_step, self._failures = value, run.step, 0
            if self.restore_best:
                self._params = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
            return
        self._failures += 1
        if self.patience is not None and self._failures >= self.patience:
            run.stop(
                f"{self.monitor} has not improved on {self.best:.4g} since step {self.best_step}"
            )

    def on_end(self, run: Run) -> None:
        """Restore the best parameters."""
        if run.error is None and self.restore_best and self._params is not None:
            for leaf, best in zip(arrays.flatten(run.params)[0], self._params, strict=True):
                leaf[...] = best

    def state_dict(self) -> dict[str, Any]:
        """The best value and parameters, and how long ago they were."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "failures": self._failures,
            "params": self._params,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.best, self.best_step = state["best"], state["best_step"]
        self._failures, self._params = state["failures"], state["params"]
