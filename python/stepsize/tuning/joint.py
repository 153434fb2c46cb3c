"""Where to look next for a rate and other hyperparameters together: expected improvement.

A Gaussian process over the runs so far, in coordinates in which the best value hardly moves as the
others do (the rules of `transfer`): the rate over the root of the batch, rate times decay over the
batch, the half-life of averaged squares in examples. What the names are is told by the names.

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
WALL, HIGHEST = 0.15, 3.0  # prior mean per squared decade from the first rate, and at most
CANDIDATES = 600
NEAR = 0.8  # decades of rates, and shares of ranges, around the best point
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
        self._batch = next((n for n in space if n in BATCHES and _is_ordered(space[n])), "")

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
            batch = _log(point[self._batch]) if self._batch else 0.0
            rows.append([x for name in names for x in self._coordinate(name, point, batch)])
        return np.array(rows)

    def improvement(
        self, tried: Sequence[Point], values: Curve, candidates: Sequence[Point], first: Point
    ) -> Curve:
        """The expected improvement of each candidate."""
        known, asked = self.at(tried), self.at(candidates)
        centre = self.at([first])[0, 0]

        def prior(rows: Curve) -> Curve:
            away = RATE_LENGTH * (rows[:, 0] - centre)
            mean: Curve = np.minimum(WALL * away**2, HIGHEST)
            return mean

        covariance = _matern(known, known) + NOISE * np.eye(len(known))
        across = _matern(asked, known)
        level = float(np.mean(values - prior(known)))
        weights = np.linalg.solve(covariance, np.c_[values - prior(known) - level, across.T])
        mean = level + prior(asked) + across @ weights[:, 0]
        variance = 1 - np.einsum("ij,ji->i", across, weights[:, 1:])
        deviation = np.sqrt(np.maximum(variance, LEAST))
        gain = float(values.min()) - mean
        z = gain / deviation
        below = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in z])
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        out: Curve = gain * below + deviation * density
        return out


def _matern(one: Curve, other: Curve) -> Curve:
    """The Matern kernel of smoothness 5/2 at distances in lengths."""
    far = np.sqrt(5 * ((one[:, None] - other[None]) ** 2).sum(-1))
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
    unit = float(np.quantile(above, 0.5))
    small: Curve = np.log1p(above / unit) if unit > 0 else np.sign(above)
    return small


def middle(space: Space) -> Point:
    """The point in the middle of each range, and of the options where these have an order."""
    point: Point = {}
    for name, values in space.items():
        if isinstance(values, Choice):
            options = sorted(values.options) if _is_ordered(values) else list(values.options)
            point[name] = options[len(options) // 2 if _is_ordered(values) else 0]
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
    candidates = [_near(space, rate, best if k % 2 else first, rng) for k in range(CANDIDATES)]
    gains = Surface(space, rate).improvement(points, scores(values), candidates, first)
    return candidates[int(np.argmax(gains))]


def _near(space: Space, rate: str, point: Mapping[str, Any], rng: np.random.Generator) -> Point:
    """A point that shares some values with another one; its rate is near."""
    found: Point = {}
    for name, values in space.items():
        if name == rate and isinstance(values, LogUniform):
            found[name] = values.nearest(point[name] * 10 ** (NEAR * rng.standard_normal()))
        elif rng.random() < 0.5:
            found[name] = point[name]
        else:
            found[name] = values.draw(rng)
    return found
