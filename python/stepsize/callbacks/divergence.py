"""Ending a run that diverges, or rolling back to before the loss spike."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.callbacks.base import count_or_none
from stepsize.curves import median_and_spread
from stepsize.serialization import states
from stepsize.validation import LONGEST_WINDOW, real, truth, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["RollBackOnSpike", "StopOnDivergence"]


class StopOnDivergence:
    """Stop when the loss is not finite or far above its first value.

    The reason names the step, the rate and the parameter with the largest gradient, or the first
    whose gradient is not finite. `fit` itself stops at a loss that is not finite, unless the
    optimizer has ``on_nonfinite="skip"`` or ``"ignore"``.

    Args:
        factor: a loss above ``factor`` times the first one (or times 1e-8, if that is more) counts.
        patience: stop after so many such steps in a row.
    """

    expects_descent = True  # of the loss: fit refuses it with an optimizer that climbs

    def __init__(self, factor: float = 100.0, patience: int = 1):
        self.factor = real("StopOnDivergence: factor", factor)
        if not self.factor > 1:
            raise ValueError(f"StopOnDivergence: factor must be above 1, got {factor}")
        self.patience = count_or_none("StopOnDivergence: patience", patience) or 1
        self._failures = 0

    def on_start(self, run: Run) -> None:
        """Reset at step 0; a resumed run continues."""
        if run.step == 0:
            self._failures = 0

    def on_step(self, run: Run) -> None:
        """Check the loss of the step."""
        loss, first = run.history.at("loss", -1), run.history.at("loss", 0)
        if loss <= self.factor * max(abs(first), 1e-8):
            self._failures = 0
            return
        self._failures += 1
        if self._failures < self.patience:
            return
        what = (
            "is not finite" if not math.isfinite(loss) else f"is far above the first, {first:.4g}"
        )
        run.stop(
            f"diverged at step {run.step} with lr {run.history.last('lr'):.3g}: the loss "
            f"{loss:.4g} {what}; {_largest(run.grads)}"
        )

    def state_dict(self) -> dict[str, Any]:
        """How many steps in a row counted."""
        return {"failures": self._failures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        found = states.checked("StopOnDivergence", state, {"failures": states.count})
        self._failures = found["failures"]


class RollBackOnSpike:
    """Roll back to the last good state and lower the rate at a loss spike.

    A loss is a spike if it is not finite, or lies more than ``threshold`` standard deviations above
    the median of the last ``window`` losses. The standard deviation is estimated robustly, as
    1.4826 times the median absolute deviation, and is at least a thousandth of the median.
    Parameters and optimizer are then restored to the last snapshot that was followed by ``every``
    steps without a spike; the data continue, so the same batch does not come again at once. The
    history keeps what happened, with ``spike`` 1 in that row.

    A step refused because a gradient is not finite counts too, and the run continues.

    Args:
        threshold: how many standard deviations above the median make a spike.
        window: how many losses to compare with; before half of them are there, only a loss that is
            not finite is a spike.
        every: steps between two snapshots.
        shrink: what to multiply ``lr_scale`` by at each spike; 1 leaves the rate alone.
        limit: after so many rollbacks the next spike ends the run.
        rollback: False only records spikes.
    """

    expects_descent = True  # of the loss: fit refuses it with an optimizer that climbs

    def __init__(
        self,
        threshold: float = 10.0,
        window: int = 50,
        every: int = 20,
        shrink: float = 0.5,
        limit: int = 5,
        rollback: bool = True,
    ):
        low, high = (
            real(f"RollBackOnSpike: {n}", v)
            for n, v in (("threshold", threshold), ("shrink", shrink))
        )
        if not low > 0 or not 0 < high <= 1:
            raise ValueError(
                "RollBackOnSpike: threshold must be above 0 and shrink in (0, 1], got "
                f"{threshold} and {shrink}"
            )
        self.threshold = low
        self.window = whole("RollBackOnSpike: window", window, most=LONGEST_WINDOW)
        self.every = whole("RollBackOnSpike: every", every)
        self.shrink = high
        self.limit = whole("RollBackOnSpike: limit", limit)
        self.rollback = truth("RollBackOnSpike: rollback", rollback)
        self._reset()

    def _reset(self) -> None:
        self.spikes = 0
        self._losses: deque[float] = deque(maxlen=self.window)
        self._good: dict[str, Any] | None = None
        self._fresh: dict[str, Any] | None = None

    def on_start(self, run: Run) -> None:
        """Take the first snapshot."""
        if run.step == 0:
            self._reset()
        if self._good is None and self.rollback:
            self._good = self._fresh = _snapshot(run)

    def on_step(self, run: Run) -> None:
        """Check the loss of the step."""
        loss = run.history.at("loss", -1)
        if self._is_spike(loss):
            self._spike(run)
            return
        self._losses.append(loss)
        if self.rollback and run.step % self.every == 0:
            self._good, self._fresh = self._fresh, _snapshot(run)

    def on_nonfinite(self, run: Run) -> bool:
        """Roll back where a loss or gradient that is not finite would end the run."""
        if not self.rollback or self.spikes >= self.limit:
            return False
        self._spike(run)
        return True

    def _is_spike(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        if 2 * len(self._losses) < self.window:
            return False
        median, spread = median_and_spread(self._losses)
        return loss > median + self.threshold * max(spread, 1e-3 * abs(median))

    def _spike(self, run: Run) -> None:
        self.spikes += 1
        run.history.record("spike", 1.0)
        if not self.rollback or self._good is None:
            return
        if self.spikes > self.limit:
            run.stop(f"another loss spike after {self.limit} rollbacks, at step {run.step}")
        else:
            scale = run.optimizer.lr_scale
            _restore(run, self._good)
            run.optimizer.lr_scale = scale * self.shrink
            self._fresh = self._good

    def state_dict(self) -> dict[str, Any]:
        """The last losses, the number of spikes, and the snapshots."""
        return {
            "losses": list(self._losses),
            "spikes": self.spikes,
            "good": self._good,
            "fresh": self._fresh,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        found = states.checked("RollBackOnSpike", state, _STATE)
        self._losses = deque(found["losses"], maxlen=self.window)
        self.spikes = found["spikes"]
        self._good, self._fresh = found["good"], found["fresh"]


def _kept(label: str, value: Any) -> dict[str, Any]:
    """A snapshot, of parameters and optimizer."""
    kept = states.mapping(label, value)
    if set(kept) != {"params", "optimizer"}:
        raise ValueError(f"{label} must hold params and optimizer, got {', '.join(map(str, kept))}")
    params = states.leaves(f"{label}: params", kept["params"])
    return {"params": params, "optimizer": states.mapping(f"{label}: optimizer", kept["optimizer"])}


_STATE = {
    "losses": states.each(states.finite),
    "spikes": states.count,
    "good": states.optional(_kept),
    "fresh": states.optional(_kept),
}


def _snapshot(run: Run) -> dict[str, Any]:
    leaves = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
    return {"params": leaves, "optimizer": run.optimizer.state_dict()}


def _restore(run: Run, state: Mapping[str, Any]) -> None:
    run.optimizer.load_state_dict(state["optimizer"])
    for leaf, saved in zip(arrays.flatten(run.params)[0], state["params"], strict=True):
        leaf[...] = saved


def _largest(grads: Any) -> str:
    """The leaf with the largest gradient, or the first that is not finite, in words."""
    leaves, paths, _ = arrays.flatten(grads)
    norms = {
        path: arrays.norm([np.asarray(arrays.view_as_real(leaf), np.float64)])
        for leaf, path in zip(leaves, paths, strict=True)
        if leaf is not None
    }
    for path, norm in norms.items():
        if not math.isfinite(norm):
            return f"the gradient of {path} is not finite"
    path = max(norms, key=lambda name: norms[name])
    return f"the largest gradient is that of {path} (norm {norms[path]:.3g})"
