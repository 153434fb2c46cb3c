"""Statistics of learning curves: debiased averages, noise, block means and linear trends."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from stepsize.arrays import Curve

MAD_TO_STD = 1.4826  # standard deviations in a median absolute deviation, of normal values
TINY = 1e-300


def debiased_ema(values: ArrayLike, smoothing: float) -> Curve:
    """Exponential moving average divided by the weight seen so far, as Adam's bias correction.

    Smoothing 0 returns the values.

    >>> debiased_ema([1.0, 3.0], 0.5)
    array([1.        , 2.33333333])
    """
    row = np.asarray(values, np.float64)
    smoothed = np.empty(len(row), np.float64)
    average, weight = 0.0, 0.0
    for k, value in enumerate(row.tolist()):
        average = smoothing * average + (1 - smoothing) * value
        weight = smoothing * weight + (1 - smoothing)
        smoothed[k] = average / weight
    return smoothed


def mad_noise(curve: Curve, order: int = 1) -> float:
    """Standard deviation of one value around a smooth curve, from the MAD of its differences.

    Robust to outliers. Differences of `order` 1 see a constant level, of order 2 also a slope, as
    no noise. 0 for fewer than three values.
    """
    if len(curve) < 3:
        return 0.0
    scale = math.sqrt(math.comb(2 * order, order))
    return MAD_TO_STD * float(np.median(np.abs(np.diff(curve, order)))) / scale


def difference_noise(curve: Curve) -> float:
    """Standard deviation of one value around a smooth curve, from that of its differences.

    More efficient than `mad_noise`, and not robust to outliers. 0 for fewer than two values.
    """
    return float(np.std(np.diff(curve))) / math.sqrt(2) if len(curve) > 1 else 0.0


def median_and_spread(values: Iterable[float]) -> tuple[float, float]:
    """The median, and the MAD around it in standard deviations of a normal distribution.

    >>> median_and_spread([1.0, 2.0, 3.0, 4.0, 100.0])
    (3.0, 1.4826)
    """
    row = list(values)
    median = statistics.median(row)
    return median, MAD_TO_STD * statistics.median(abs(x - median) for x in row)


def block_means(curve: Curve, count: int) -> Curve:
    """Means over `count` consecutive blocks, or over as many as there are values.

    >>> block_means(np.array([1.0, 3.0, 5.0, 7.0]), 2)
    array([2., 6.])
    """
    return np.array([b.mean() for b in np.array_split(curve, min(count, len(curve)))])


def linear_trend(levels: Curve) -> tuple[float, float, float]:
    """How much evenly spaced levels decrease along a fitted line, its z-score, and the residual.

    The decrease is over the whole length, the z-score its distance from 0 in standard errors, the
    residual the standard deviation around the line. All 0 for fewer than four levels.
    """
    count = len(levels)
    if count < 4:
        return 0.0, 0.0, 0.0
    x = np.arange(count) - (count - 1) / 2
    slope = float(x @ levels / (x @ x))
    rest = levels - levels.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (count - 2) / float(x @ x))
    tiny = 1e-12 * (abs(float(levels.mean())) / count + abs(slope)) + TINY
    return -slope * count, -slope / (error + tiny), float(rest.std())
