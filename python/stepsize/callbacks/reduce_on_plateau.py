"""Lowering the rate of a run that no longer gets better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsize.callbacks.base import MonitorCallback
from stepsize.schedules import Plateau
from stepsize.serialization import states

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["ReduceOnPlateau"]


class ReduceOnPlateau(MonitorCallback):
    """Lower the learning rate when a metric has not improved for a while.

    `Plateau` does it, by multiplying ``optimizer.lr_scale``, so it combines with any schedule. A
    value that is NaN is no measurement: it is warned of, and no rate is lowered for it.

    Args:
        monitor: ``loss`` (the training loss, averaged over the epoch) or a validation metric.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is; ``"auto"`` infers it from the
            name of the metric, and asks where that tells nothing.
        options: as for `Plateau`: ``factor``, ``patience`` and so on.
    """

    def __init__(self, monitor: str = "val_loss", *, mode: str = "auto", **options: Any):
        super().__init__(monitor, mode)
        self._options = {**options, "mode": self.mode}
        self._plateau: Plateau | None = None
        self._loaded: Mapping[str, Any] | None = None
        self._value_due: float | None = None

    def on_start(self, run: Run) -> None:
        """Attach a `Plateau` to the optimizer."""
        self._plateau = Plateau(run.optimizer, **self._options)
        if self._loaded is not None:
            self._plateau.load_state_dict(self._loaded)
            self._loaded = None

    def on_value(self, run: Run, value: float) -> None:
        """Keep the value until the average of the parameters is taken out of them again."""
        if math.isnan(value):
            warnings.warn(
                f"ReduceOnPlateau: {self.monitor} was nan at step {run.step}, which is no "
                "measurement and does not count; look for NaN in the data it is made from",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self._value_due = value

    def on_step(self, run: Run) -> None:
        """Pass a new value to the plateau."""
        if self._plateau is not None and self._value_due is not None:
            self._plateau.update(self._value_due)
        self._value_due = None

    def on_epoch(self, run: Run) -> None:
        """Pass a new value to the plateau."""
        super().on_epoch(run)
        self.on_step(run)

    def state_dict(self) -> dict[str, Any]:
        """The state of the plateau."""
        if self._loaded is not None or self._plateau is None:
            return dict(self._loaded or {})
        return dict(self._plateau.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, once the run starts; ValueError for anything else."""
        best = {"best_params": states.optional(states.leaves)}
        checks = {**Plateau.counters(), **(best if self._options.get("restore_best") else {})}
        empty = isinstance(state, Mapping) and not state  # of a run that had not started
        self._loaded = None if empty else states.checked("ReduceOnPlateau", state, checks)
