"""Batch sizes: grown by epoch, and measured against the noise of the gradient."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import arrays
from stepsize.noise_scale import NoiseScale, noise_ratio, signal_and_noise, with_interval
from stepsize.serialization import states
from stepsize.validation import LONGEST_WINDOW, whole

if TYPE_CHECKING:
    from stepsize.training.run import Run


__all__ = ["BatchSizeSchedule", "NoiseScaleMonitor"]


class BatchSizeSchedule:
    """Grow the batch instead of lowering the rate.

    Both lower the gradient noise of a step alike; larger batches need fewer steps.

    Args:
        sizes: maps an epoch to the batch size from there on: ``{0: 32, 10: 64, 20: 128}``.

    Source: Smith et al. 2018, arXiv:1711.00489.
    """

    def __init__(self, sizes: Mapping[int, int]):
        if not isinstance(sizes, Mapping):
            raise TypeError(
                "BatchSizeSchedule: sizes must map epochs to batch sizes, as {0: 32, 10: 64}, got "
                f"{sizes!r:.200}"
            )
        found = {}
        for epoch, size in sizes.items():
            at = whole("BatchSizeSchedule: an epoch in sizes", epoch, 0)
            found[at] = whole(f"BatchSizeSchedule: sizes[{at}]", size)
        self.sizes = dict(sorted(found.items()))

    def on_start(self, run: Run) -> None:
        """Set the batch size of the first epoch."""
        self.on_epoch(run)

    def on_epoch(self, run: Run) -> None:
        """Set the batch size of the next epoch."""
        for epoch, size in self.sizes.items():
            if epoch <= run.epoch:
                run.batch_size = size

    def on_step(self, run: Run) -> None:
        """Record the batch size."""
        run.history.record("batch_size", run.batch_size)


class NoiseScaleMonitor:
    """Record the critical batch size during a run that accumulates gradients.

    It needs ``fit(..., accumulate=n)`` with n of at least 2 and arrays to train on, and costs two
    norms per step. After each of so many steps ``history["critical_batch"]`` gets the estimate over
    the last ``window`` steps, signal and noise averaged apart.

    Args:
        window: how many steps to average over.
        every: steps between two estimates.

    Attributes:
        estimate: the latest `NoiseScale`, None before the first.
    """

    needs_micro_squares = True

    def __init__(self, window: int = 100, every: int = 10):
        window = whole("NoiseScaleMonitor: window", window, 3, LONGEST_WINDOW)
        self.every = whole("NoiseScaleMonitor: every", every)
        self.estimate: NoiseScale | None = None
        self._moments: deque[tuple[float, float]] = deque(maxlen=window)

    def on_start(self, run: Run) -> None:
        """Refuse a run without gradient accumulation."""
        if run.accumulate < 2:
            raise ValueError("NoiseScaleMonitor: give fit accumulate=2 or more to compare with")
        _ = run.batch_size
        if run.step == 0:
            self._moments.clear()

    def on_gradients(self, run: Run) -> None:
        """Compare the gradients of the accumulated batches with their mean."""
        n = len(run.micro_squares)
        if n < 2:
            return
        square = sum(map(arrays.sum_of_squares, arrays.flatten(run.grads)[0]))
        mean_square = math.fsum(run.micro_squares) / n
        self._moments.append(signal_and_noise(square, mean_square, n, run.batch_size))

    def on_step(self, run: Run) -> None:
        """Record if due."""
        if run.step % self.every or not self._moments:
            return
        moments = np.array(self._moments)
        n, total = len(moments), moments.sum(axis=0)
        left_out = [noise_ratio(*map(float, (total - row) / (n - 1))) for row in moments if n > 1]
        self.estimate = with_interval(float(total[0] / n), float(total[1] / n), left_out)
        run.history.record("critical_batch", self.estimate.critical_batch)

    def state_dict(self) -> dict[str, Any]:
        """Signal and noise of the last steps."""
        return {"moments": [list(pair) for pair in self._moments]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        found = states.checked("NoiseScaleMonitor", state, {"moments": states.each(_pair)})
        self._moments.clear()
        self._moments.extend(found["moments"])


def _pair(label: str, value: Any) -> tuple[float, float]:
    """Signal and noise of one step."""
    numbers = states.each(states.finite)(label, value)
    if len(numbers) != 2:
        raise ValueError(f"{label} must be a pair, signal and noise, got {value!r:.80}")
    return numbers[0], numbers[1]
