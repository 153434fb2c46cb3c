"""Recording the rates of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepsize.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["LRMonitor"]


class LRMonitor:
    """Record the rate of each parameter group as ``lr/0``, ``lr/1`` and so on, and ``lr_scale``.

    For learning-rate-free rules also the rate they arrived at, as ``lr_effective`` or, where each
    leaf has its own, ``lr_effective/`` + path.
    """

    def __init__(self) -> None:
        self._rates: Sequence[float] = ()

    def on_gradients(self, run: Run) -> None:
        """Read the rates that the step will use."""
        lr = run.optimizer.lr
        self._rates = lr if isinstance(lr, tuple) else (lr,)

    def on_step(self, run: Run) -> None:
        """Record them."""
        for index, rate in enumerate(self._rates):
            run.history.record(f"lr/{index}", rate)
        run.history.record("lr_scale", run.optimizer.lr_scale)
        # Asked of the instance, since a wrapper hands the question on.
        if run.optimizer.effective.__func__ is not Optimizer.effective:  # type: ignore[attr-defined]
            for name, rate in _by_name(run.optimizer.lr_effective).items():
                run.history.record(f"lr_effective{name}", rate)


def _by_name(rates: Any) -> dict[str, float]:
    if isinstance(rates, tuple):
        rates = dict(enumerate(rates))
    if isinstance(rates, dict):
        return {f"/{name}": rate for name, rate in rates.items()}
    return {"": rates}
