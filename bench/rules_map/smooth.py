"""Problems whose gradients are exact: convex ones, valleys, scales, bounds, complex numbers."""

from __future__ import annotations

import numpy as np
from problem import Array, Params, Task, problem, rotation, spectrum


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def quadratic(matrix: Array, start: Array, best: Array, **more) -> Task:
    def both(p: Params) -> tuple[float, Params]:
        away = p["x"] - best
        pull = matrix @ away
        return float(away @ pull) / 2, {"x": pull}

    return Task({"x": start}, both, lambda p: both(p)[0], **more)


@problem("convex", 1e-4, 10, 1e3, 1e5)
def quadratic_along_the_axes(rng, condition):
    """A quadratic in 50 variables, its axes those of the parameters;"""
    return quadratic(np.diag(spectrum(50, condition)), rng.standard_normal(50), np.zeros(50))


@problem("convex", 1e-4, 10, 1e3, 1e5)
def quadratic_turned(rng, condition):
    """A quadratic in 50 variables whose axes lie anywhere;"""
    turn = rotation(rng, 50)
    matrix = turn @ np.diag(spectrum(50, condition)) @ turn.T
    return quadratic(matrix, rng.standard_normal(50), np.zeros(50))


def newton(x: Array, gradient, hessian) -> Array:
    for _ in range(60):
        x = x - np.linalg.solve(hessian(x), gradient(x))
    return x


@problem("convex", 1e-3, 1e-1, 1e-3, 1e-5)
def logistic_regression(rng, ridge):
    """Logistic regression of 200 points on 20 correlated features, with some labels flipped;"""
    mix = rng.standard_normal((20, 20)) * spectrum(20, 30)
    data = rng.standard_normal((200, 20)) @ mix
    labels = np.where(data @ rng.standard_normal(20) > 0, 1.0, -1.0)
    labels *= np.where(rng.random(200) < 0.05, -1, 1)

    def loss(w: Array) -> float:
        return float(np.mean(np.logaddexp(0, -labels * (data @ w))) + ridge / 2 * w @ w)

    def slope(w: Array) -> Array:
        return -data.T @ (labels * sigmoid(-labels * (data @ w))) / 200 + ridge * w

    def curvature(w: Array) -> Array:
        s = sigmoid(data @ w)
        return data.T @ (data * (s * (1 - s))[:, None]) / 200 + ridge * np.eye(20)

    best = loss(newton(np.zeros(20), slope, curvature))
    return Task(
        {"w": np.zeros(20)},
        lambda p: (loss(p["w"]), {"w": slope(p["w"])}),
        lambda p: loss(p["w"]) - best,
    )


@problem("convex", 1e-2, 10, 30, 100)
def least_absolute_deviations(rng, size):
    """The mean absolute residual of equations that can be met: gradients stay large;"""
    data = rng.standard_normal((3 * size, size)) / np.sqrt(size)
    best = rng.standard_normal(size)

    def both(p: Params) -> tuple[float, Params]:
        rest = data @ (p["x"] - best)
        return float(np.abs(rest).mean()), {"x": data.T @ np.sign(rest) / len(rest)}

    return Task({"x": np.zeros(size)}, both, lambda p: both(p)[0])


@problem("valleys, saddles, plateaus", 1e-4, 2, 10, 50)
def rosenbrock(rng, size):
    """Rosenbrock's curved valley;"""

    def both(p: Params) -> tuple[float, Params]:
        x = p["x"]
        bend, rest = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        slope = np.zeros(size)
        slope[:-1] = -400 * x[:-1] * bend - 2 * rest
        slope[1:] += 200 * bend
        return float(100 * bend @ bend + rest @ rest), {"x": slope}

    start = np.resize([-1.2, 1.0], size) + 0.01 * rng.standard_normal(size)
    return Task({"x": start}, both, lambda p: both(p)[0])


@problem("valleys, saddles, plateaus", 1e-3, 1e-2, 1e-4, 1e-8)
def saddle(rng, distance_from_it):
    """A quartic in 20 variables, from next to its saddle at 0;"""
    turn = rotation(rng, 20)
    bend = np.where(np.arange(20) < 5, -1.0, 0.5)

    def both(p: Params) -> tuple[float, Params]:
        y = turn.T @ p["x"]
        loss = float(bend @ y**2 / 2 + np.sum(y**4) / 4)
        return loss, {"x": turn @ (bend * y + y**3)}

    lowest = -5 / 4
    start = turn @ (distance_from_it * rng.choice([-1.0, 1.0], 20))
    return Task({"x": start}, both, lambda p: both(p)[0] - lowest)


@problem("valleys, saddles, plateaus", 1e-2, 3, 6, 9)
def plateau(rng, distance_away):
    """A sum of saturated curves: far away the gradient all but vanishes;"""
    signs = rng.choice([-1.0, 1.0], 10)

    def both(p: Params) -> tuple[float, Params]:
        t = np.tanh(p["x"] ** 2 / 4)
        return float(np.mean(t)), {"x": (1 - t**2) * p["x"] / 2 / 10}

    return Task({"x": signs * distance_away / 2}, both, lambda p: both(p)[0])


@problem("valleys, saddles, plateaus", 1e-3, 2, 4, 7)
def deep_linear(rng, layers):
    """A product of square layers that is to be a rotation, from near 0.7 times the identity;"""
    size = 6
    target = np.linalg.qr(rng.standard_normal((size, size)))[0]
    target[:, 0] *= np.sign(np.linalg.det(target))
    start = {
        f"w{k}": 0.7 * np.eye(size) + 0.05 * rng.standard_normal((size, size))
        for k in range(layers)
    }

    def both(p: Params) -> tuple[float, Params]:
        before = [np.eye(size)]
        for w in p.values():
            before.append(w @ before[-1])
        rest = before[-1] - target
        back, grads = rest, {}
        for k in reversed(range(layers)):
            grads[f"w{k}"] = back @ before[k].T
            back = p[f"w{k}"].T @ back
        return float(np.sum(rest**2)) / 2, grads

    return Task(start, both, lambda p: both(p)[0])


@problem("scales that differ", 1e-3, 10, 1e3, 1e5)
def one_leaf_large_one_small(rng, ratio):
    """Two leaves, where the curvature of one is a multiple of that of the other;"""
    best = {"large": rng.standard_normal(20), "small": rng.standard_normal(20) * ratio}
    curve = {"large": 1.0, "small": ratio**-2.0}

    def both(p: Params) -> tuple[float, Params]:
        away = {key: p[key] - best[key] for key in best}
        loss = sum(curve[key] * float(away[key] @ away[key]) for key in best) / 2
        return loss, {key: curve[key] * away[key] for key in best}

    return Task({key: np.zeros(20) for key in best}, both, lambda p: both(p)[0])


@problem("scales that differ", 1e-3, 10, 1e3, 1e5)
def features_in_other_units(rng, ratio):
    """Least squares of 200 points on 20 features in units from 1 / ratio to 1;"""
    data = rng.standard_normal((200, 20)) * rng.permutation(spectrum(20, ratio))
    wanted = data @ (rng.standard_normal(20) / np.abs(data).max(0))

    def both(p: Params) -> tuple[float, Params]:
        rest = data @ p["w"] - wanted
        return float(rest @ rest) / 400, {"w": data.T @ rest / 200}

    return Task({"w": np.zeros(20)}, both, lambda p: both(p)[0])


@problem("bounded", 1e-3, 10, 100, 1000)
def least_squares_above_0(rng, condition):
    """Least squares where no parameter may be negative and half of them end at 0;"""
    size = 40
    turn = rotation(rng, size)
    matrix = turn @ np.diag(spectrum(size, condition)) @ turn.T
    best = np.maximum(rng.standard_normal(size), 0)
    push = np.where(best > 0, 0, rng.random(size))  # the multipliers: best is the solution

    def both(p: Params) -> tuple[float, Params]:
        away = p["x"] - best
        pull = matrix @ away
        return float(away @ pull / 2 + push @ p["x"]), {"x": pull + push}

    return Task({"x": np.ones(size)}, both, lambda p: both(p)[0], bounds=(0, None))


@problem("bounded", 1e-2, 10, 50, 200)
def shares_between_0_and_1(rng, size):
    """Mixing shares in a box, seen through a logarithm; many end at its sides;"""
    data = rng.random((2 * size, size)) / size
    best = np.clip(rng.normal(0.5, 0.5, size), 0, 1)
    wanted = data @ best + 0.1

    def both(p: Params) -> tuple[float, Params]:
        seen = data @ p["x"] + 0.1
        rest = np.log(seen / wanted)
        return float(rest @ rest) / 2, {"x": data.T @ (rest / seen)}

    return Task({"x": np.full(size, 0.5)}, both, lambda p: both(p)[0], bounds=(0, 1))


@problem("complex", 1e-4, 10, 1e2, 1e3)
def complex_least_squares(rng, condition):
    """Least squares in 30 complex unknowns;"""

    def draw(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    left, right = np.linalg.qr(draw(60, 30))[0], np.linalg.qr(draw(30, 30))[0]
    data = left * np.sqrt(spectrum(30, condition)) @ right
    best = draw(30)

    def both(p: Params) -> tuple[float, Params]:
        rest = data @ (p["x"] - best)
        return float(np.vdot(rest, rest).real) / 2, {"x": data.conj().T @ rest}

    return Task({"x": np.zeros(30, complex)}, both, lambda p: both(p)[0])


@problem("complex", 1e-2, 8, 16, 32)
def phase_retrieval(rng, size):
    """A complex vector from the magnitudes of ten times as many products, from a spectral start;"""

    def draw(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    data, best = draw(10 * size, size), draw(size)
    seen = np.abs(data @ best) ** 2
    start = np.linalg.eigh(data.conj().T @ (data * seen[:, None]))[1][:, -1]
    start = start * np.sqrt(seen.mean()) + 0.3 * draw(size)

    def both(p: Params) -> tuple[float, Params]:
        z = data @ p["x"]
        rest = np.abs(z) ** 2 - seen
        return float(rest @ rest) / len(rest) / 2, {"x": 2 * data.conj().T @ (rest * z) / len(rest)}

    def error(p: Params) -> float:
        turn = np.vdot(p["x"], best)
        return float(np.sum(np.abs(p["x"] * turn / max(abs(turn), 1e-300) - best) ** 2))

    return Task({"x": start}, both, error)
