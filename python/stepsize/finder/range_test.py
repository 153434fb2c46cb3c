"""The learning-rate range test: raise the rate at every step until the loss is lost.

The loss of a range test mixes two things, where the parameters are and which batch was drawn.
Cycling through `PERIOD` batches makes each loss comparable with the loss of the same batch before;
what is left is the decrease.

Source: Smith 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stepsize.arrays import Curve
from stepsize.finder.settings import Settings
from stepsize.finder.trials import Trial, TrialRunner

PERIOD = 3  # batches in a cycle
SPREAD = math.sqrt(10)  # ratio of neighbouring rates in a race: half a decade
SINGLE_STEP_RATIO = 100  # max/median change above which the jump is a step, not noise
BELOW_END = 3  # half decades from the last rate down to the race, where noise hides the decrease
LEAST_GAIN = 1e-6  # share of the first loss below which a gain is rounding
LOWEST, HIGHEST = 1e-40, 1e12  # rates beyond which a range is not moved


@dataclass(frozen=True)
class RangeTest:
    """A range test: by how much its loss fell (`decrease`) and where.

    Half of the decrease was reached at step `half_decrease_step`, at the rate `centre`. Where the
    decrease is less than the noise of the loss, `half_decrease_step` is the number of steps and
    `centre` lies below the last rate.
    """

    lrs: Curve
    losses: Curve
    stopped: str
    diverged: bool
    centre: float
    decrease: float
    half_decrease_step: int

    @property
    def start(self) -> float:
        """The loss before training: the mean over the first cycle of batches."""
        return float(self.losses[:PERIOD].mean())

    @classmethod
    def run(cls, trial: Trial, lrs: Iterable[float], stop_ratio: float) -> RangeTest:
        """Raise the rate at every step until more is lost than was gained."""
        stopped, diverged = _raise_rate(trial, lrs, stop_ratio)
        losses = np.asarray(trial.losses)
        rates = np.asarray(trial.lrs[: len(losses)])
        if not len(losses):
            return cls(rates, losses, stopped, diverged, math.nan, 0.0, 0)
        change = loss_change(losses)
        smooth = np.convolve(np.pad(change, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
        lowest = int(np.argmin(smooth))
        depth = float(smooth[lowest])
        half = int(np.flatnonzero(smooth <= depth / 2)[0]) if depth < 0 else lowest
        centre = float(rates[half])
        if len(losses) > 2 * PERIOD + 2 and -depth < _noise(losses):
            half, centre = len(losses), float(rates[-1]) / SPREAD**BELOW_END
        return cls(rates, losses, stopped, diverged, centre, -depth, half)


def loss_change(losses: Curve) -> Curve:
    """Loss of each step minus the loss of the same batch in the first cycle."""
    return losses - losses[np.arange(len(losses)) % PERIOD]


def _noise(losses: Curve) -> float:
    """How far a loss moves without a step, as under dropout: what the first rates seem to do.

    The largest change from the first to the second cycle of batches, or, while the second may be
    what explodes, the range of the first. One jump among small changes is a step, and no noise.
    """
    change = np.abs(loss_change(losses)[PERIOD : 2 * PERIOD])
    if len(losses) < 2 * PERIOD + 2:
        return max(float(change[0]), float(np.ptp(losses[:PERIOD])))
    largest = float(change.max())
    return largest if largest < SINGLE_STEP_RATIO * float(np.median(change)) else 0.0


def _lost(losses: Curve, stop_ratio: float) -> bool:
    """Whether the last two steps gave back `stop_ratio` times the best that was gained.

    Works on changes of loss, so neither its sign nor a constant in it matters.
    """
    if len(losses) < PERIOD + 3:
        return False
    change = loss_change(losses)
    lowest = float(change.min())
    gained = max(-lowest, LEAST_GAIN * abs(float(losses[0])), _noise(losses))
    return bool(min(change[-2:]) > lowest + stop_ratio * gained)


def _raise_rate(trial: Trial, lrs: Iterable[float], stop_ratio: float) -> tuple[str, bool]:
    """Step at each rate in turn; why that ended, and whether the loss diverged."""
    for lr in lrs:
        if not trial.step(lr):
            break
        losses = np.asarray(trial.losses)
        if _lost(losses, stop_ratio):
            stopped = f"stopped at lr={lr:.2e}, where the loss had risen to {losses[-1]:.3g} "
            return stopped + f"from a best of {losses.min():.3g}", True
    if trial.failure is not None:
        return f"stopped because {trial.failure}", True
    return f"reached lr={trial.lrs[len(trial.losses) - 1]:.2e} without diverging", False


def find_range(runner: TrialRunner, settings: Settings, first_batch: int) -> RangeTest:
    """A range test, repeated lower when it diverges at once, and higher when it ends too early."""
    space = np.linspace if settings.spacing == "linear" else np.geomspace

    def tested(low: float, high: float) -> RangeTest:
        rates = [float(r) for r in space(low, high, settings.range_steps)]
        return RangeTest.run(runner.trial(first_batch, PERIOD), rates, settings.stop_ratio)

    low, high = settings.lr_min, settings.lr_max
    least, most = settings.bounds
    found = tested(low, high)
    if not len(found.losses):  # no rate had been tried when the loss was lost
        return found
    while runner.budget > settings.steps // 2 and low > LOWEST:
        late = found.half_decrease_step >= len(found.losses) - 3
        if low > least and found.diverged and len(found.losses) <= PERIOD + 3:
            low, high = max(low * 1e-6, least), low * 10
            found = tested(low, high)
        elif not found.diverged and late and high < min(HIGHEST, most):
            low, high = high / 10, min(high * 1e5, most)
            higher = tested(low, high)
            # A first cycle that explodes makes what follows look like a decrease.
            exploded = higher.start > found.start + max(found.decrease, 0.0)
            if exploded or higher.decrease <= found.decrease:
                break
            found = higher
        else:
            break
    return found
