"""Problems whose gradients are noisy, rare, or of targets that move."""

from __future__ import annotations

import numpy as np
from problem import Params, Task, problem, spectrum
from smooth import newton, sigmoid


def noisy_quadratic(rng, curve, draw, goal_of=None):
    size = len(curve)
    best = rng.standard_normal(size)

    def gradient(p: Params) -> tuple[float, Params]:
        away = p["x"] - best
        slope = curve * away
        return float(away @ slope) / 2, {"x": slope + draw(size)}

    def error(p: Params) -> float:
        away = p["x"] - best
        return float(away @ (curve * away)) / 2

    return Task({"x": best + rng.standard_normal(size)}, gradient, error)


@problem("noise", 2e-2, 0.1, 0.5, 2.0)
def quadratic_in_noise(rng, noise):
    """A quadratic of condition 10 in 50 variables under normal noise in each coordinate;"""
    noises = np.random.default_rng(rng.integers(2**32))
    return noisy_quadratic(rng, spectrum(50, 10), lambda n: noise * noises.standard_normal(n))


@problem("noise", 2e-2, 4, 2, 1.2)
def heavy_tails(rng, degrees):
    """The same under Student's noise, with heavier tails for fewer degrees of freedom;"""
    noises = np.random.default_rng(rng.integers(2**32))
    return noisy_quadratic(rng, spectrum(50, 10), lambda n: 0.3 * noises.standard_t(degrees, n))


@problem("noise", 2e-2, 3, 10, 30)
def noise_in_some_coordinates(rng, ratio):
    """Noise of another size in each coordinate, up to the ratio;"""
    noises = np.random.default_rng(rng.integers(2**32))
    sizes = rng.permutation(np.geomspace(0.1, 0.1 * ratio, 50))
    return noisy_quadratic(rng, np.ones(50), lambda n: sizes * noises.standard_normal(n))


@problem("noise", 1e-2, 0.01, 0.05, 0.2)
def gradients_gone_wrong(rng, share):
    """A quadratic, where some of the gradients are a hundred times too long and point anywhere;"""
    noises = np.random.default_rng(rng.integers(2**32))

    def draw(n):
        wrong = noises.random() < share
        return 0.1 * noises.standard_normal(n) * (100 if wrong else 1)

    return noisy_quadratic(rng, spectrum(30, 10), draw)


@problem("small batches", 2e-2, 64, 8, 1)
def logistic_by_batches(rng, batch):
    """Logistic regression of 1,000 points on 20 features, by batches;"""
    rows, size, ridge = 1000, 20, 1e-3
    data = rng.standard_normal((rows, size)) * spectrum(size, 10)
    labels = np.where(data @ rng.standard_normal(size) + 0.3 * rng.standard_normal(rows) > 0, 1, -1)
    draws = np.random.default_rng(rng.integers(2**32))
    batch = int(batch)

    def loss(w, a, y):
        return float(np.mean(np.logaddexp(0, -y * (a @ w))) + ridge / 2 * w @ w)

    def slope(w, a, y):
        return -a.T @ (y * sigmoid(-y * (a @ w))) / len(y) + ridge * w

    def curvature(w):
        s = sigmoid(data @ w)
        return data.T @ (data * (s * (1 - s))[:, None]) / rows + ridge * np.eye(size)

    best = loss(newton(np.zeros(size), lambda w: slope(w, data, labels), curvature), data, labels)

    def gradient(p: Params) -> tuple[float, Params]:
        rows_now = draws.integers(rows, size=batch)
        a, y = data[rows_now], labels[rows_now]
        return loss(p["w"], a, y), {"w": slope(p["w"], a, y)}

    start = {"w": np.zeros(size)}
    return Task(start, gradient, lambda p: loss(p["w"], data, labels) - best)


@problem("small batches", 1e-3, 64, 8, 1)
def equations_that_can_be_met(rng, batch):
    """Least squares with a solution that meets every equation, by batches: noise ends there;"""
    data = rng.standard_normal((400, 20)) * spectrum(20, 5)
    best = rng.standard_normal(20)
    draws = np.random.default_rng(rng.integers(2**32))
    batch = int(batch)

    def gradient(p: Params) -> tuple[float, Params]:
        a = data[draws.integers(400, size=batch)]
        rest = a @ (p["w"] - best)
        return float(rest @ rest) / 2 / batch, {"w": a.T @ rest / batch}

    def error(p: Params) -> float:
        rest = data @ (p["w"] - best)
        return float(rest @ rest) / 800

    return Task({"w": np.zeros(20)}, gradient, error)


@problem("sparse", 3e-2, 0.5, 1.0, 1.5)
def rare_words(rng, exponent):
    """A table of 200 rows, of which each gradient sees four, drawn by a power law;"""
    share = 1 / np.arange(1, 201) ** exponent
    share /= share.sum()
    best = rng.standard_normal((200, 4))
    draws = np.random.default_rng(rng.integers(2**32))
    bounds = np.cumsum(share)

    def gradient(p: Params) -> tuple[float, Params]:
        rows = np.unique(np.searchsorted(bounds, draws.random(4)).clip(max=199))
        slope = np.zeros((200, 4))
        slope[rows] = p["table"][rows] - best[rows]
        return float(np.sum(slope**2)) / 2, {"table": slope}

    seen = share[:, None] > 1 / (4 * 600)  # those that can be met at all

    def error(p: Params) -> float:
        return float(np.sum(((p["table"] - best) * seen) ** 2))

    return Task({"table": np.zeros((200, 4))}, gradient, error)


@problem("sparse", 5e-2, 20, 100, 400)
def few_features_matter(rng, size):
    """Noisy least squares: 5 of the features matter, and each is 0 nine times of ten;"""
    size = int(size)
    best = np.zeros(size)
    best[rng.choice(size, 5, replace=False)] = rng.choice([-1.0, 1.0], 5)
    draws = np.random.default_rng(rng.integers(2**32))

    def gradient(p: Params) -> tuple[float, Params]:
        a = draws.standard_normal((16, size)) * (draws.random((16, size)) < 0.1)
        rest = a @ (p["w"] - best) + 0.05 * draws.standard_normal(16)
        return float(rest @ rest) / 32, {"w": a.T @ rest / 16}

    return Task({"w": np.zeros(size)}, gradient, lambda p: float(np.sum((p["w"] - best) ** 2)))


@problem("moving targets", 0.1, 1e-3, 3e-3, 1e-2)
def a_drifting_optimum(rng, drift):
    """The optimum of a noisy quadratic wanders off; the mean error of the second half counts;"""
    draws = np.random.default_rng(rng.integers(2**32))
    at, way = np.zeros(20), rng.choice([-1.0, 1.0], 20)

    def gradient(p: Params) -> tuple[float, Params]:
        nonlocal at
        at = at + drift * way
        away = p["x"] - at
        return float(away @ away) / 2, {"x": away + 0.1 * draws.standard_normal(20)}

    def error(p: Params) -> float:
        return float(np.sum((p["x"] - at) ** 2)) / 2

    return Task({"x": rng.choice([-1.0, 1.0], 20)}, gradient, error, on_the_way=True)


@problem("moving targets", 0.15, 300, 150, 75)
def an_optimum_that_jumps(rng, steps_between):
    """The optimum jumps elsewhere from time to time; the mean error of the second half counts;"""
    draws = np.random.default_rng(rng.integers(2**32))
    at, asked = np.zeros(20), 0

    def gradient(p: Params) -> tuple[float, Params]:
        nonlocal at, asked
        if asked % int(steps_between) == 0 and asked:
            at = draws.standard_normal(20)
        asked += 1
        away = p["x"] - at
        return float(away @ away) / 2, {"x": away + 0.1 * draws.standard_normal(20)}

    def error(p: Params) -> float:
        return float(np.sum((p["x"] - at) ** 2)) / 2

    return Task({"x": rng.standard_normal(20)}, gradient, error, on_the_way=True)
