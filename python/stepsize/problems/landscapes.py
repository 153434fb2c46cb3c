"""Test functions of two variables, and a quadratic with chosen curvatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepsize.arrays import Array
from stepsize.problems.problem import Problem
from stepsize.validation import numeric


@dataclass(frozen=True)
class Landscape:
    """A function of two variables with its gradient, usable as `value_and_grad`.

    `formula(x, y)` returns the value and both derivatives, and broadcasts over arrays. Points that
    have diverged give infinities and NaN without a warning.

    >>> landscape = rosenbrock().value_and_grad
    >>> landscape(np.array([1.0, 1.0]), None)[0]
    0.0
    >>> landscape.value(np.zeros(3), 1.0).tolist()
    [101.0, 101.0, 101.0]
    """

    formula: Callable[[Any, Any], tuple[Any, Any, Any]]
    minima: tuple[tuple[float, float], ...]

    def __call__(self, params: Array, batch: Any) -> tuple[float, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            value, dx, dy = self.formula(params[0], params[1])
        return float(value), np.array([dx, dy], params.dtype)

    def value(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at the points `x, y`, broadcast against each other, as for a contour plot."""
        return np.asarray(self.formula(np.asarray(x, float), np.asarray(y, float))[0])


def _landscape(landscape: Landscape, start: ArrayLike, name: str) -> Problem:
    point = numeric("start", start)
    if point.shape != (2,):
        raise ValueError(f"start must hold 2 numbers, got shape {point.shape}")
    return Problem(point, landscape, [None], name=name)


def _rosenbrock(x: Any, y: Any) -> tuple[Any, Any, Any]:
    rise = y - x * x
    return (1 - x) ** 2 + 100 * rise * rise, -2 * (1 - x) - 400 * x * rise, 200 * rise


def rosenbrock(start: ArrayLike = (-1.5, 2.0)) -> Problem:
    """A long curved valley: easy to reach, slow to follow.

    f(x, y) = (1 - x)^2 + 100 (y - x^2)^2,  minimum 0 at (1, 1)

    Source: Rosenbrock 1960, doi:10.1093/comjnl/3.3.175.

    >>> rosenbrock().value_and_grad(np.array([1.0, 1.0]), None)[0]
    0.0
    """
    return _landscape(Landscape(_rosenbrock, ((1.0, 1.0),)), start, "rosenbrock")


def _beale(x: Any, y: Any) -> tuple[Any, Any, Any]:
    value, dx, dy = 0.0, 0.0, 0.0
    for power, target in ((1, 1.5), (2, 2.25), (3, 2.625)):
        r = target - x + x * y**power
        value = value + r * r
        dx = dx + 2 * r * (y**power - 1)
        dy = dy + 2 * r * x * power * y ** (power - 1)
    return value, dx, dy


def beale(start: ArrayLike = (-1.0, 1.5)) -> Problem:
    """A flat plain with steep walls at its corners.

    f(x, y) = sum_k (c_k - x + x y^k)^2,  c = 1.5, 2.25, 2.625,  minimum 0 at (3, 0.5)

    Source: Beale 1958; function 5 of More, Garbow and Hillstrom 1981, doi:10.1145/355934.355936.

    >>> beale().value_and_grad(np.array([3.0, 0.5]), None)[0]
    0.0
    """
    return _landscape(Landscape(_beale, ((3.0, 0.5),)), start, "beale")


def _himmelblau(x: Any, y: Any) -> tuple[Any, Any, Any]:
    a, b = x * x + y - 11, x + y * y - 7
    return a * a + b * b, 4 * x * a + 2 * b, 2 * a + 4 * y * b


def himmelblau(start: ArrayLike = (-0.5, -1.0)) -> Problem:
    """Four equally deep basins; the rate decides in which one a path ends.

    f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2,  minimum 0 at four points

    Source: Himmelblau 1972, Applied Nonlinear Programming.

    >>> himmelblau().value_and_grad(np.array([3.0, 2.0]), None)[0]
    0.0
    """
    minima = (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    )
    return _landscape(Landscape(_himmelblau, minima), start, "himmelblau")


def _rastrigin(x: Any, y: Any) -> tuple[Any, Any, Any]:
    turn = 2 * np.pi
    value = 20 + x * x - 10 * np.cos(turn * x) + y * y - 10 * np.cos(turn * y)
    return value, 2 * x + 10 * turn * np.sin(turn * x), 2 * y + 10 * turn * np.sin(turn * y)


def rastrigin(start: ArrayLike = (2.3, -1.8)) -> Problem:
    """A bowl with many local minima: with a small rate the path stays in the first one it reaches.

    f(x, y) = 20 + x^2 - 10 cos(2 pi x) + y^2 - 10 cos(2 pi y),  minimum 0 at (0, 0)

    Source: Rastrigin 1974, Systems of Extremal Control.

    >>> rastrigin().value_and_grad(np.array([0.0, 0.0]), None)[0]
    0.0
    """
    return _landscape(Landscape(_rastrigin, ((0.0, 0.0),)), start, "rastrigin")


def _saddle(x: Any, y: Any) -> tuple[Any, Any, Any]:
    return (x * x - y * y) / 2 + y**4 / 4, x, y**3 - y


def saddle(start: ArrayLike = (1.0, 1e-3)) -> Problem:
    """A saddle point at (0, 0) between two minima; the way out is nearly flat.

    f(x, y) = x^2 / 2 - y^2 / 2 + y^4 / 4,  minimum -1/4 at (0, -1) and (0, 1)

    >>> saddle().value_and_grad(np.array([0.0, 1.0]), None)[0]
    -0.25
    """
    return _landscape(Landscape(_saddle, ((0.0, -1.0), (0.0, 1.0))), start, "saddle")


@dataclass(frozen=True)
class _Quadratic:
    curvatures: Array

    def __call__(self, params: Array, batch: Any) -> tuple[float, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            grad = self.curvatures * params
            return float(grad @ params) / 2, grad


def quadratic(curvatures: ArrayLike = (1.0, 10.0), start: ArrayLike | None = None) -> Problem:
    """A bowl with chosen curvatures: gradient descent diverges where rate * curvature exceeds 2.

    f(x) = sum_i c_i x_i^2 / 2,  minimum 0 at 0

    `start` defaults to ones.

    >>> quadratic([2.0, 4.0]).value_and_grad(np.array([1.0, 1.0]), None)[0]
    3.0
    """
    curvatures = numeric("quadratic: curvatures", curvatures)
    point = np.ones_like(curvatures) if start is None else numeric("quadratic: start", start)
    if curvatures.ndim != 1 or point.shape != curvatures.shape:
        raise ValueError(
            "curvatures and start must be rows of the same length, "
            f"got shapes {curvatures.shape} and {point.shape}"
        )
    return Problem(point, _Quadratic(curvatures), [None], name="quadratic")
