"""Where to look next for a rate and other hyperparameters together: expected improvement.

A Gaussian process over the runs so far, in coordinates in which the best value hardly moves as the
others do (the rules of `transfer`): the rate over the root of the batch, rate times decay over the
batch, the half-life of averaged squares in examples. What the names are is told by the names. How
far a run tells of others, along each coordinate, is averaged over draws by their likelihood.

Sources: Jones, Schonlau & Welch 1998, "Efficient global optimization of expensive black-box
functions", equation 15; the coordinates, see `stepsize.scaling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsize.arrays import Curve
from stepsize.tuning.space import Choice, LogUniform, Point, Space

BATCHES, DECAYS, SQUARES = ("batch", "batch_size"), ("weight_decay",), ("beta2",)
RATE_LENGTH, DECAY_LENGTH, BATCH_LENGTH, SQUARE_LENGTH = 0.7, 1.5, 0.8, 0.8  # decades alike
RANGE_LENGTH = 0.4  # of the range of any other number
OTHER = 1.0  # distance between two options without an order, in lengths
NOISE = 0.05  # variance of a run, in that of the surface
SPREAD, NOISE_SPREAD = 0.5, 1.0  # deviations of the logarithms of lengths and of NOISE, as drawn
DRAWS, KEPT = 128, 6  # of these, and those of the largest likelihood, which are asked
TREND = 1.0  # deviation of a slope per length, in all but the rate
FIRM = 2.0  # runs that the variance of the surface is worth beforehand
WALL, HIGHEST = 0.15, 3.0  # prior mean per squared decade from the first rate, and at most
CANDIDATES = 400
NEAR, NEARER = 0.8, 0.24  # decades of rates around the first and the best point
UNIT = 0.25  # quantile of what values lie above the best; below it they count in proportion
LEAST = 1e-12


def _spread(values: Any) -> float:
    """The length of a range on its own scale."""
    if isinstance(values, LogUniform):
        return math.log10(values.high / values.low)
    return float(values.high - values.low)


def _is_ordered(values: Any) -> bool:
    return not isinstance(values, Choice) or all(
        isinstance(o, int | float) and not isinstance(o, bool) for o in values.options
    )


def _log(value: Any) -> float:
    return math.log10(max(float(value), LEAST))


class Surface:
    """The coordinates of points, and what is expected there from the runs so far."""

    def __init__(self, space: Space, rate: str) -> None:
        self.space, self.rate = space, rate
        self._batch = next((n for n in space if n in BATCHES and _is_ordered(space[n])), None)

    def _coordinate(self, name: str, point: Point, batch: float) -> list[float]:
        value, values = point[name], self.space[name]
        if name == self.rate:
            return [(_log(value) - batch / 2) / RATE_LENGTH]
        if name == self._batch:
            return [batch / BATCH_LENGTH]
        if name in DECAYS and _is_ordered(values):
            return [(_log(value) + _log(point[self.rate]) - batch) / DECAY_LENGTH]
        if name in SQUARES and _is_ordered(values) and 0 < value < 1:
            return [(batch - _log(-math.log(value))) / SQUARE_LENGTH]
        if isinstance(values, Choice):
            options = values.options
            if _is_ordered(values):
                ranks = sorted(options)
                return [ranks.index(value) / max(len(ranks) - 1, 1) / RANGE_LENGTH]
            return [OTHER / math.sqrt(2) * (options.index(value) == k) for k in range(len(options))]
        at = _log(value) if isinstance(values, LogUniform) else float(value)
        return [at / _spread(values) / RANGE_LENGTH]

    def at(self, points: Sequence[Point]) -> Curve:
        """The coordinates of points, one row each, the rate first."""
        names = [self.rate, *(n for n in self.space if n != self.rate)]
        rows = []
        for point in points:
            batch = _log(point[self._batch]) if self._batch is not None else 0.0
            rows.append([x for name in names for x in self._coordinate(name, point, batch)])
        return np.array(rows)

    def improvement(
        self, tried: Sequence[Point], values: Curve, candidates: Sequence[Point], first: Point
    ) -> Curve:
        """The expected improvement of each candidate, over the lengths that the runs speak for."""
        origin = self.at([first])
        known, asked = self.at(tried) - origin, self.at(candidates) - origin
        scales, noises = _draws(known.shape[1])
        fits = _Fits(known, values, scales, noises)
        slope = TREND**2 * asked[:, 1:] @ known[:, 1:].T
        own = 1 + TREND**2 * (asked[:, 1:] ** 2).sum(1)
        apart = (asked[:, None] - known[None]) ** 2
        total: Curve = np.zeros(len(asked))
        for k in np.argsort(fits.weight)[-KEPT:]:
            across = _matern(apart @ scales[k]) + slope
            mean = fits.level[k] + _wall(asked) + across @ fits.solved[k]
            spread = own - np.einsum("ij,ji->i", across, fits.inverse[k] @ across.T)
            deviation = np.sqrt(np.maximum(fits.variance[k] * spread, LEAST))
            total += fits.weight[k] * _gain(float(values.min()) - mean, deviation)
        return total


class _Fits:
    """The process under each draw of its constants, weighted by the likelihood of the runs.

    The level is the one of generalized least squares, and the variance that of the runs with FIRM
    more of variance one, so that both are integrated out.
    """

    def __init__(self, known: Curve, values: Curve, scales: Curve, noises: Curve) -> None:
        near = (known[:, None] - known[None]) ** 2
        trend = TREND**2 * known[:, 1:] @ known[:, 1:].T
        rest = values - _wall(known)
        covariance = _matern(near @ scales.T).transpose(2, 0, 1) + trend
        covariance += noises[:, None, None] * np.eye(len(known))
        self.inverse = np.linalg.inv(covariance)
        ones = self.inverse.sum((1, 2))
        self.level = (self.inverse @ rest).sum(1) / ones
        away = rest - self.level[:, None]
        self.solved = np.einsum("sij,sj->si", self.inverse, away)
        self.variance = (FIRM + (away * self.solved).sum(1)) / (FIRM + len(rest))
        evidence = -(FIRM + len(rest)) / 2 * np.log(self.variance) - np.log(ones) / 2
        evidence -= np.linalg.slogdet(covariance)[1] / 2
        self.weight = np.exp(evidence - evidence.max())


def _wall(rows: Curve) -> Curve:
    """The prior mean, lowest at the first rate, in coordinates from there."""
    mean: Curve = np.minimum(WALL * (RATE_LENGTH * rows[:, 0]) ** 2, HIGHEST)
    return mean


def _draws(width: int) -> tuple[Curve, Curve]:
    """Squared scales of so many coordinates and variances of a run; always the same draws."""
    rng = np.random.default_rng(0)
    scales = np.exp(2 * SPREAD * rng.standard_normal((DRAWS, width)))
    return scales, NOISE * np.exp(NOISE_SPREAD * rng.standard_normal(DRAWS))


def _gain(ahead: Curve, deviation: Curve) -> Curve:
    """The expected improvement, equation 15."""
    z = ahead / deviation
    below = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in z])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    out: Curve = ahead * below + deviation * density
    return out


def _matern(square: Curve) -> Curve:
    """The Matern kernel of smoothness 5/2 at squared distances in lengths."""
    far = np.sqrt(5 * square)
    kernel: Curve = (1 + far + far**2 / 3) * np.exp(-far)
    return kernel


def scores(values: Sequence[float]) -> Curve:
    """Values as the process sees them: small near the best, lost runs as the worst that ended."""
    given = np.array(values, np.float64)
    ended = given[np.isfinite(given)]
    if not len(ended):
        return np.ones(len(given))
    given = np.where(np.isfinite(given), given, ended.max())
    above = given - ended.min()
    unit = float(np.quantile(above, UNIT))
    small: Curve = np.log1p(above / unit) if unit > 0 else np.sign(above)
    return small


def middle(space: Space) -> Point:
    """The point in the middle of each range, and of the options where these have an order.

    Of an even number of options it is the lower of the two.
    """
    point: Point = {}
    for name, values in space.items():
        if isinstance(values, Choice):
            options = sorted(values.options) if _is_ordered(values) else list(values.options)
            point[name] = options[(len(options) - 1) // 2 if _is_ordered(values) else 0]
        else:
            log = isinstance(values, LogUniform)
            mean = math.sqrt(values.low * values.high) if log else (values.low + values.high) / 2
            point[name] = values.nearest(mean)
    return point


def next_point(
    space: Space,
    rate: str,
    tried: Sequence[tuple[Point, float]],
    start: float,
    rng: np.random.Generator,
) -> Point:
    """The candidate that promises most; the first one is the middle of the space at `start`."""
    first = {**middle(space), rate: start}
    if not tried:
        return first
    points, values = [p for p, _ in tried], [v for _, v in tried]
    best = points[int(np.argmin(values))]
    candidates = [
        _near(space, rate, best if k % 2 else first, NEAR if k % 4 < 2 else NEARER, rng)
        for k in range(CANDIDATES)
    ]
    gains = Surface(space, rate).improvement(points, scores(values), candidates, first)
    return candidates[int(np.argmax(gains))]


def _near(
    space: Space, rate: str, point: Mapping[str, Any], width: float, rng: np.random.Generator
) -> Point:
    """A point that shares some values with another one; its rate is some decades away."""
    found: Point = {}
    for name, values in space.items():
        if name == rate and isinstance(values, LogUniform):
            found[name] = values.nearest(point[name] * 10 ** (width * rng.standard_normal()))
        elif rng.random() < 0.5:
            found[name] = point[name]
        else:
            found[name] = values.draw(rng)
    return found
