"""Lowering the rate of a run that no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsize.callbacks.base import MonitorCallback
from stepsize.schedules import Plateau

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["ReduceOnPlateau"]


class ReduceOnPlateau(MonitorCallback):
    """Lower the learning rate when a metric has not improved for a while.

    `Plateau` does it, by multiplying ``optimizer.lr_scale``, so it combines with any schedule.

    Args:
        monitor: ``loss`` (the training loss, averaged over the epoch) or a validation metric.
        options: as for `Plateau`: ``mode``, ``factor``, ``patience`` and so on.
    """

    def __init__(self, monitor: str = "val_loss", **options: Any):
        super().__init__(monitor, options.get("mode", "min"))
        self._options = options
        self._plateau: Plateau | None = None
        self._loaded: Mapping[str, Any] | None = None

    def on_start(self, run: Run) -> None:
        """Attach a `Plateau` to the optimizer."""
        self._plateau = Plateau(run.optimizer, **self._options)
        if self._loaded is not None:
            self._plateau.load_state_dict(self._loaded)
            self._loaded = None

    def on_value(self, run: Run, value: float) -> None:
        """Pass the value to the plateau."""
        if self._plateau is not None:
            self._plateau.update(value)

    def state_dict(self) -> dict[str, Any]:
        """The state of the plateau."""
        return dict(self._plateau.state_dict()) if self._plateau is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, once the run starts."""
        self._loaded = state or None
