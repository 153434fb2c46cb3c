"""How far to trust a suggestion: "high", "medium", "low" or "none", and the reason in words.

Thresholds were set on the tuning split of bench/advice, the intervals with all of its splits in
view: in each of them nine in ten hold a rate whose training ends within 0.01 of the best of its
grid. The lowest of the grid, a matter of luck where the valley is flat, is in three of four. The
rates that won the races are always inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepsize.curves import TINY, difference_noise
from stepsize.finder.horizon import BASE
from stepsize.finder.racing import Advice
from stepsize.finder.range_test import SPREAD
from stepsize.finder.settings import Settings

# Decades from the suggestion between which a rate lies that is as good as the best.
INTERVALS = {"high": (-0.4, 0.4), "medium": (-0.7, 0.6), "low": (-0.9, 2.4), "none": (0.0, 0.0)}
REFINED_INTERVALS = {**INTERVALS, "medium": (-0.5, 0.5)}

LARGEST_SPREAD = 4  # ratio of the largest to the smallest rate of repeats: above it "low"
FEWEST_FINALISTS = 2  # trials to compare: below it "low"
DECREASE_LOW = 1.5  # decrease of the loss in standard deviations of its noise: below it "low"
DECREASE_MEDIUM = 15  # the same: below it "medium"
FEWEST_STEPS = 25  # steps of the race: below it "medium"
LATE_DECREASE = 0.2  # share of the decrease made in the last third: above it "medium", not settled
# The same: above it "low" where the rate that won lies beyond the interval of the suggestion, so
# that a longer race might have gone higher still. Set with all splits but the held-out one in view.
LATE_BEYOND = 0.3
LOST_AGAIN = -1  # the same: below it more was lost in the last third than was kept, "low"
FLAT_VALLEY = math.log(SPREAD) / 2  # |log(weighted rate / winner)|: above it "medium"
CLEAR_LEAD = 2  # lead of the first over the second in its standard errors: below it "medium"
PARTS = 3  # of the race, for the late decrease


def confidence(passes: Sequence[Advice]) -> tuple[str, str]:
    """The class of the advice that the passes agree on, and why."""
    if not passes:
        return "none", ""
    spread = max(a.rate for a in passes) / min(a.rate for a in passes)
    if spread > LARGEST_SPREAD:
        return "low", f"repeats differ by a factor of {spread:.1f}"
    race = passes[0].race
    finalists = [t for t in race.trials[:FEWEST_FINALISTS] if t.failure is None]
    if len(finalists) < FEWEST_FINALISTS:
        return "low", "only one of the rates tried did not diverge"
    first, second = (np.asarray(t.losses) for t in finalists)
    size = min(len(first), len(second))
    half = slice(size // 2, size)
    thirds = [float(third.mean()) for third in np.array_split(first, PARTS)]
    decrease = (passes[0].range_test.start - thirds[2]) / (difference_noise(first[half]) + TINY)
    late = (thirds[1] - thirds[2]) / max(thirds[0] - thirds[2], TINY)
    if decrease < DECREASE_LOW:
        return "low", f"the loss fell by less than its noise in {size} steps"
    if late < LOST_AGAIN:
        return "low", f"the loss lost more than it kept in the last third of {size} steps"
    if late > LATE_BEYOND and finalists[0].rate > passes[0].rate * BASE ** INTERVALS["medium"][1]:
        return "low", f"a far higher rate won, and its loss still fell after {size} steps"
    if decrease < DECREASE_MEDIUM:
        return "medium", "the loss is noisy"
    if size < FEWEST_STEPS or late > LATE_DECREASE or thirds[0] < thirds[2]:
        return "medium", f"{size} steps were too short to settle it"
    if abs(math.log(race.weighted_rate / finalists[0].rate)) > FLAT_VALLEY:
        return "medium", "other rates did almost as well"
    lead = second[half] - first[half]
    error = float(lead.std()) / math.sqrt(max(len(lead) - 1, 1))
    if not float(lead.mean()) > CLEAR_LEAD * error:
        return "medium", "it won closely"
    return "high", "it won clearly"


def interval_of(
    rate: float,
    peak: float,
    settings: Settings,
    good: Sequence[Advice],
    trust: str,
    decades: float,
) -> tuple[float, float]:
    """Where the best rate lies, as often as was measured; below any rate that was seen to fail.

    The rates that won races are inside, moved by the decades of another length: what came lowest is
    as likely the best.
    """
    if not math.isfinite(rate):
        return math.nan, math.nan
    below, above = (REFINED_INTERVALS if settings.horizon else INTERVALS)[trust]
    lost = [t.rate for a in good for t in a.race.trials if t.failure is not None]
    lost += [float(a.range_test.lrs[-1]) for a in good if a.range_test.diverged]
    high = min([settings.bounded(rate * BASE**above), *(lr for lr in lost if lr > rate)])
    won = [settings.bounded(a.race.best.rate * BASE**decades) for a in good]
    return min(settings.bounded(rate * BASE**below), *won), max(high, peak, *won)
