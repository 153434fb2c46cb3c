"""Callbacks that change a run while it goes: roll back, grow the batch, freeze, watch the rates."""

from __future__ import annotations

import fnmatch
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from stepsize import arrays
from stepsize.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from stepsize.training.run import Run


class RollBackOnSpike:
    """Go back to the last good state and lower the rate when the loss leaps.

    A loss is a spike if it is not finite, or more than ``threshold`` times their usual spread above
    the median of the last ``window`` losses (spread: the median distance from the median, times
    1.4826, and at least a thousandth of the median). Parameters and optimizer then return to the
    last state that was followed by ``every`` calm steps; the data go on, so the batch that did it
    is not met at once again. The history keeps what happened, with ``spike`` 1 in its row.

    A step refused for a gradient that is not finite counts too, and the run goes on.

    Args:
        threshold: how many spreads above the median make a spike.
        window: how many losses to compare with; nothing is a spike before half of them are there.
        every: how often to keep a state.
        shrink: what to multiply ``lr_scale`` by at each spike; 1 leaves the rate alone.
        limit: after so many returns the next spike ends the run.
        rollback: False only records spikes.
    """

    def __init__(
        self,
        threshold: float = 10.0,
        window: int = 50,
        every: int = 20,
        shrink: float = 0.5,
        limit: int = 5,
        rollback: bool = True,
    ):
        if not threshold > 0 or not 0 < shrink <= 1:
            raise ValueError(
                "RollBackOnSpike: threshold must be above 0 and shrink in (0, 1], got "
                f"{threshold} and {shrink}"
            )
        for name, value in (("window", window), ("every", every), ("limit", limit)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"RollBackOnSpike: {name} must be at least 1, got {value!r}")
        self.threshold = threshold
        self.window = window
        self.every = every
        self.shrink = shrink
        self.limit = limit
        self.rollback = rollback
        self._forget()

    def _forget(self) -> None:
        self.spikes = 0
        self._losses: deque[float] = deque(maxlen=self.window)
        self._good: dict[str, Any] | None = None
        self._fresh: dict[str, Any] | None = None

    def on_start(self, run: Run) -> None:
        """Keep the first state."""
        if run.step == 0:
            self._forget()
        if self._good is None and self.rollback:
            self._good = self._fresh = _snapshot(run)

    def on_step(self, run: Run) -> None:
        """Look at the loss of the step."""
        loss = run.history.at("loss", -1)
        if self._leaps(loss):
            self._spike(run)
            return
        self._losses.append(loss)
        if self.rollback and run.step % self.every == 0:
            self._good, self._fresh = self._fresh, _snapshot(run)

    def on_nonfinite(self, run: Run) -> bool:
        """Take up a run that would end because a loss or gradient is not finite."""
        if not self.rollback or self.spikes >= self.limit:
            return False
        self._spike(run)
        return True

    def _leaps(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        if 2 * len(self._losses) < self.window:
            return False
        median = statistics.median(self._losses)
        spread = 1.4826 * statistics.median(abs(x - median) for x in self._losses)
        return loss > median + self.threshold * max(spread, 1e-3 * abs(median))

    def _spike(self, run: Run) -> None:
        self.spikes += 1
        run.history.record("spike", 1.0)
        if not self.rollback or self._good is None:
            return
        if self.spikes > self.limit:
            run.stop(f"the loss leapt once more after {self.limit} returns, at step {run.step}")
        else:
            scale = run.optimizer.lr_scale
            _restore(run, self._good)
            run.optimizer.lr_scale = scale * self.shrink
            self._fresh = self._good

    def state_dict(self) -> dict[str, Any]:
        """The last losses, the number of spikes, and the states to return to."""
        return {
            "losses": list(self._losses),
            "spikes": self.spikes,
            "good": self._good,
            "fresh": self._fresh,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._losses = deque(state["losses"], maxlen=self.window)
        self.spikes = state["spikes"]
        self._good, self._fresh = state["good"], state["fresh"]


def _snapshot(run: Run) -> dict[str, Any]:
    leaves = [np.array(leaf) for leaf in arrays.flatten(run.params)[0]]
    return {"params": leaves, "optimizer": run.optimizer.state_dict()}


def _restore(run: Run, state: Mapping[str, Any]) -> None:
    run.optimizer.load_state_dict(state["optimizer"])
    for leaf, saved in zip(arrays.flatten(run.params)[0], state["params"], strict=True):
        leaf[...] = saved


class BatchSizeSchedule:
    """Grow the batch instead of lowering the rate.

    Both lower the noise of the steps alike; the larger batch makes fewer of them.

    Args:
        sizes: batch size by epoch, from which on it holds: ``{0: 32, 10: 64, 20: 128}``.

    Source: Smith et al. 2018, arXiv:1711.00489.
    """

    def __init__(self, sizes: Mapping[int, int]):
        for epoch, size in sizes.items():
            if not isinstance(epoch, int) or epoch < 0 or not isinstance(size, int) or size < 1:
                raise ValueError(
                    "BatchSizeSchedule: sizes must map epochs (0, 1, ...) to batch sizes (1, 2, "
                    f"...), got {epoch!r}: {size!r}"
                )
        self.sizes = dict(sorted(sizes.items()))

    def on_start(self, run: Run) -> None:
        """Set the size of the first epoch."""
        self.on_epoch(run)

    def on_epoch(self, run: Run) -> None:
        """Set the size of the epoch to come."""
        for epoch, size in self.sizes.items():
            if epoch <= run.epoch:
                run.batch_size = size

    def on_step(self, run: Run) -> None:
        """Record the size."""
        run.history.record("batch_size", run.batch_size)


class Freeze:
    """Leave some parameters, and their optimizer state, as they are for a while.

    Args:
        patterns: globs of parameter names, such as ``"layers/0/*"``.
        until: the number of steps after which they move again; None freezes them for good.
    """

    def __init__(self, *patterns: str, until: int | None = None):
        if not patterns:
            raise ValueError('Freeze: give at least one pattern, such as "layers/0/*"')
        if until is not None and (not isinstance(until, int) or until < 1):
            raise ValueError(f"Freeze: until must be a number of steps, got {until!r}")
        self.patterns = patterns
        self.until = until

    def on_start(self, run: Run) -> None:
        """Find the parameters."""
        paths = arrays.flatten(run.params)[1]
        for pattern in self.patterns:
            if not fnmatch.filter(paths, pattern):
                raise ValueError(
                    f"Freeze: {pattern!r} matches no parameter; there are {', '.join(paths)}"
                )
        self._frozen = [any(fnmatch.fnmatchcase(p, q) for q in self.patterns) for p in paths]

    def on_gradients(self, run: Run) -> None:
        """Take the gradients away."""
        if self.until is None or run.step < self.until:
            leaves, spec = optree.tree_flatten(run.grads, none_is_leaf=True)
            kept = [None if f else leaf for leaf, f in zip(leaves, self._frozen, strict=True)]
            run.grads = optree.tree_unflatten(spec, kept)


class LRMonitor:
    """Record the rate of each parameter group as ``lr/0``, ``lr/1`` and so on, and ``lr_scale``.

    For rules that find a rate of their own, also what they made of it, as ``lr_effective`` or,
    where it is one for each leaf, ``lr_effective/`` + path.
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
