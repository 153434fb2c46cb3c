"""Rules that read a rate off the curve of a range test.

`minimum`, `steepest`, `valley` and `slide` are the rules of fastai's finder, with its lengths, said
there for a hundred points, as shares of the sweep. Smith 2017, arXiv:1506.01186, section 3.3, is
where range tests come from.
"""

from __future__ import annotations

import math

import numpy as np

from stepsize.arrays import Curve


def minimum(lrs: Curve, losses: Curve) -> float:
    """A tenth of the rate with the lowest loss."""
    return float(lrs[int(np.argmin(losses))]) / 10


def steepest(lrs: Curve, losses: Curve) -> float:
    """The rate where the loss falls fastest over the logarithm of the rate."""
    slope = np.diff(losses) / np.diff(np.log(lrs))
    return float(lrs[int(np.argmin(slope))])


def valley(lrs: Curve, losses: Curve) -> float:
    """Half way down the longest valley: the longest decreasing subsequence of the losses."""
    length = np.ones(len(losses), int)
    for k in range(1, len(losses)):
        above = length[:k][losses[:k] > losses[k]]
        length[k] = 1 + int(above.max(initial=0))
    longest = int(length.max())
    start = max(int(np.argmax(length)) - longest, 0)
    return float(lrs[start + int(longest / 3) + int(longest / 6)])


def slide(lrs: Curve, losses: Curve, threshold: float = 0.005) -> float:
    """From the right, slide a window left while the slopes at its ends differ."""
    slope = np.gradient(losses)
    right = len(losses) - 1
    left = max(right - max(2, round(0.15 * len(losses))), 0)
    found = float(lrs[left])
    while left >= 0 and abs(slope[right] - slope[left]) > threshold:
        found = float(lrs[left])
        right, left = right - 1, left - 1
    return found


# What the rules read off the curve, in words.
RULE_NAMES = {
    "steepest": "steepest descent",
    "valley": "valley",
    "slide": "sliding window",
    "minimum": "minimum / 10",
}
RULES = {"steepest": steepest, "valley": valley, "slide": slide, "minimum": minimum}


def classical(lrs: Curve, smoothed: Curve) -> dict[str, float]:
    """Every rule above, on the curve without its first tenth and last twentieth.

    NaN where too few points are left.
    """
    keep = slice(len(lrs) // 10, len(lrs) - round(len(lrs) / 20))
    lrs, smoothed = lrs[keep], smoothed[keep]
    if len(lrs) < 4:
        return dict.fromkeys(RULES, math.nan)
    return {name: rule(lrs, smoothed) for name, rule in RULES.items()}
