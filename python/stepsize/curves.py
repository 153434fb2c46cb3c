"""Statistics of learning curves: debiased averages, noise, block means and linear trends."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsize.arrays import Curve

MAD_TO_STD = 1.4826  # standard deviations in a median absolute deviation, of normal values
TINY = 1e-300
MOST_VALUES = 1000  # of which is asked what they were rounded to
MOST_DIGITS = 6  # after the first: more may be all that float32 has
FEWEST_BITS = 3  # of 8-bit floats: halves of halves were not rounded
FEWEST_UNSEEN = 64  # times its tolerance, below which a common unit may be chance


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


def spacing(values: ArrayLike) -> Curve:
    """How far apart numbers lie, at each value, of the kind that the values were rounded to.

    Rounding to places, to significant digits, to half precision, and counts and shares of a count
    are told by what all values have in common; what was not rounded has the spacing of float64, or
    of float32.

    >>> spacing([0.7, 1.3, 12.4]).round(6)
    array([0.1, 0.1, 0.1])
    >>> spacing([0.0517, 1.34e5])
    array([1.e-04, 1.e+03])
    """
    row = np.asarray(values, np.float64)
    known = np.unique(np.abs(row[np.isfinite(row) & (row != 0)]))
    known = known[:: max(1, len(known) // MOST_VALUES)]
    if not len(known):
        return np.zeros(len(row))
    numbers = np.where(np.isfinite(row), np.abs(row), 0.0)
    single = bool((known == known.astype(np.float32)).all())
    bits, digits = _bits(known), _digits(known, single)
    decades = 10.0 ** np.floor(np.log10(np.maximum(numbers, TINY)))
    binary = np.ldexp(1.0, np.frexp(numbers)[1] - bits) if bits >= FEWEST_BITS else 0.0
    decimal = decades * 10.0**-digits if digits < MOST_DIGITS else 0.0
    relative = np.where(numbers > 0, np.maximum(binary, decimal), 0.0)
    return np.maximum(relative, _unit(known, single) if len(known) > 1 else 0.0)


def _bits(known: Curve) -> int:
    """The length of the longest mantissa."""
    mantissas = np.ldexp(np.frexp(known)[0], 53).astype(np.int64)
    every = int(np.bitwise_or.reduce(mantissas))
    return 53 - ((every & -every).bit_length() - 1)


def _digits(known: Curve, single: bool) -> int:
    """How many decimals after the first digit write all values, `MOST_DIGITS` if more."""
    for digits in range(MOST_DIGITS):
        texts = (f"{value:.{digits}e}" for value in known.tolist())
        rounded = (float(np.float32(text)) if single else float(text) for text in texts)
        if all(map(operator.eq, rounded, known.tolist())):
            return digits
    return MOST_DIGITS


def _unit(known: Curve, single: bool) -> float:
    """What all values are multiples of, by Euclid's algorithm; 0 where that is their rounding."""
    unseen = (1e-6 if single else 1e-13) * float(known[-1])
    found = 0.0
    for value in known.tolist():
        one, other = value, found
        while other > unseen:
            one, other = other, abs(one - round(one / other) * other)
        found = one
        if found <= FEWEST_UNSEEN * unseen:
            return 0.0
    return found


def median_and_spread(values: Iterable[float]) -> tuple[float, float]:
    """The median, and the MAD around it in standard deviations of a normal distribution.

    >>> median_and_spread([1.0, 2.0, 3.0, 4.0, 100.0])
    (3.0, 1.4826)
    """
    row = list(values)
    median = statistics.median(row)
    return median, MAD_TO_STD * statistics.median(abs(x - median) for x in row)


def paired(before: Curve, after: Curve) -> tuple[float, float]:
    """How far values fall in pairs: the mean of the differences, and its standard error.

    >>> paired(np.array([3.0, 2.0, 4.0]), np.array([2.0, 1.0, 3.0]))
    (1.0, 0.0)
    """
    differences = np.asarray(before, np.float64) - after
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(np.mean(differences)), spread / math.sqrt(len(differences))


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


def moving_average(curve: Curve, window: int) -> Curve:
    """Centred mean over an odd number of values, at most `window`; a line through them at the ends.

    Without lag: a straight line stays as it is.

    >>> moving_average(np.array([0.0, 1.0, 2.0, 9.0, 4.0, 5.0]), 3)
    array([0., 1., 4., 5., 6., 4.])
    """
    row, half = np.asarray(curve, np.float64), (window - 1) // 2
    width = 2 * half + 1
    if half < 1 or len(row) < width:
        return row.copy()
    middle = float(np.median(row))
    # Extended precision: a sum over a million values must not eat the digits of a few.
    sums = np.concatenate([[0], np.cumsum((row - middle).astype(np.longdouble))])
    means = np.asarray((sums[width:] - sums[:-width]) / width + middle, np.float64)
    away = np.arange(-half, half + 1)

    def line(values: Curve) -> Curve:
        slope = float(away @ values) / float(away @ away)
        return np.asarray(values.mean() + away * slope, np.float64)

    first, last = line(row[:width]), line(row[-width:])
    return np.concatenate([first[:half], means, last[half + 1 :]])


JUMP = 20  # times the changes beside it: a change that is drawn upright
FLAT_BESIDE = 1e-9  # of a change at the very end, beside which all must be flat
LEAST_JUMP = 1e-3  # of the whole range


def with_risers(x: Curve, y: Curve) -> tuple[Curve, Curve]:
    """The points of a curve whose jumps are to be drawn upright, at the place of the new value.

    >>> with_risers(np.arange(4.0), np.array([2.0, 2.0, 1.0, 1.0]))
    (array([0., 1., 2., 2., 3.]), array([2., 2., 2., 1., 1.]))
    """
    jumps = _jumps(y)
    return np.insert(x, jumps + 1, x[jumps + 1]), np.insert(y, jumps + 1, y[jumps])


def _jumps(y: Curve) -> NDArray[np.intp]:
    """Places before changes that are far larger than those beside them."""
    change = np.abs(np.diff(y))
    if len(change) < 2 or not np.isfinite(change).all():
        return np.empty(0, np.intp)
    beside = np.maximum(np.append(change[1:], 0), np.append(0, change[:-1]))
    limit = np.full(len(change), 1 / JUMP)
    limit[[0, -1]] = FLAT_BESIDE
    least = LEAST_JUMP * float(np.ptp(y))
    return np.flatnonzero((change > least) & (beside <= limit * change))


def sampled(function: Callable[[Curve], Curve], steps: int, most: int) -> tuple[Curve, Curve]:
    """A function of a step over the first `steps`, in at most some `most` points, jumps upright.

    Between two points of which the function jumps, every step is looked at.
    """
    at = np.unique(np.linspace(0, steps - 1, min(steps, most)).round())
    y = function(at)
    for jump in _jumps(y)[::-1]:
        between = np.arange(at[jump] + 1, at[jump + 1])
        if 0 < len(between) <= most:
            at = np.insert(at, jump + 1, between)
            y = np.insert(y, jump + 1, function(between))
    return with_risers(at, y)


def svg_line(
    x: ArrayLike,
    y: ArrayLike,
    box: tuple[float, float, float, float],
    *,
    low: float | None = None,
    width: float = 1.0,
) -> str:
    """Points as an SVG polyline in the colour of the text around it, from end to end of a box.

    `box` is its left, top, right and bottom edge; at the bottom lies `low`, or the lowest value.
    """
    at, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
    left, top, right, bottom = box
    base, high = float(values.min()) if low is None else low, float(values.max())
    across = left + (at - at[0]) / (at[-1] - at[0] or 1) * (right - left)
    up = bottom - (values - base) / (high - base or 1) * (bottom - top)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), up.tolist(), strict=True))
    return (
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="{width:g}"/>'
    )
