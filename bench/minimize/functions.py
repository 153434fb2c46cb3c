"""Twenty standard functions without noise, each with its gradient, a start and its lowest value.

Sources: Rosenbrock, Beale, Powell (singular), Wood: More, Garbow & Hillstrom 1981, "Testing
unconstrained optimization software"; Booth, Himmelblau, Styblinski-Tang, Ackley, Levy, Dixon-Price:
Surjanovic & Bingham, "Virtual library of simulation experiments". Ackley's root has 0.01 added to
its argument, so that it has a gradient at its minimum. The fits are made from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

Array = np.ndarray
FunAndGrad = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class Function:
    """A function with its gradient, where to start, and its lowest value where that is known."""

    name: str
    fun_and_grad: FunAndGrad
    x0: Array
    lowest: float | None = 0.0


def rosenbrock(x: Array) -> tuple[float, Array]:
    bend, off = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    g = np.zeros_like(x)
    g[:-1] -= 400 * x[:-1] * bend + 2 * off
    g[1:] += 200 * bend
    return float(100 * bend @ bend + off @ off), g


def quadratic(condition: float, size: int = 10) -> FunAndGrad:
    """Eigenvalues from 1 to the condition, along axes turned at random."""
    turn = np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))[0]
    matrix = turn @ np.diag(np.geomspace(1, condition, size)) @ turn.T
    return lambda x: (float(x @ matrix @ x) / 2, matrix @ x)


def beale(p: Array) -> tuple[float, Array]:
    x, y = p
    powers = np.array([y, y**2, y**3])
    r = np.array([1.5, 2.25, 2.625]) - x * (1 - powers)
    slopes = np.array([1, 2 * y, 3 * y**2]) * x
    return float(r @ r), np.array([2 * r @ (powers - 1), 2 * r @ slopes])


def booth(p: Array) -> tuple[float, Array]:
    x, y = p
    a, b = x + 2 * y - 7, 2 * x + y - 5
    return float(a * a + b * b), np.array([2 * a + 4 * b, 4 * a + 2 * b])


def himmelblau(p: Array) -> tuple[float, Array]:
    x, y = p
    a, b = x * x + y - 11, x + y * y - 7
    return float(a * a + b * b), np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def styblinski_tang(x: Array) -> tuple[float, Array]:
    return float((x**4 - 16 * x**2 + 5 * x).sum()) / 2, 2 * x**3 - 16 * x + 2.5


def ackley(x: Array) -> tuple[float, Array]:
    n, near = len(x), 0.01
    root = np.sqrt(x @ x / n + near)
    bowl, waves = 20 * np.exp(-0.2 * root), np.exp(np.cos(2 * np.pi * x).mean())
    lowest = -20 * np.exp(-0.2 * np.sqrt(near)) - np.e
    g = 0.2 * bowl * x / (n * root) + waves * 2 * np.pi * np.sin(2 * np.pi * x) / n
    return float(-bowl - waves - lowest), g


def levy(x: Array) -> tuple[float, Array]:
    w = 1 + (x - 1) / 4
    low, top = w[:-1], w[-1]
    wave = np.sin(np.pi * low + 1)
    ends = np.sin(np.pi * w[0]) ** 2 + (top - 1) ** 2 * (1 + np.sin(2 * np.pi * top) ** 2)
    g = np.zeros_like(x)
    g[:-1] = 2 * (low - 1) * (1 + 10 * wave**2)
    g[:-1] += (low - 1) ** 2 * 20 * np.pi * wave * np.cos(np.pi * low + 1)
    g[0] += np.pi * np.sin(2 * np.pi * w[0])
    g[-1] += 2 * (top - 1) * (1 + np.sin(2 * np.pi * top) ** 2)
    g[-1] += (top - 1) ** 2 * 2 * np.pi * np.sin(4 * np.pi * top)
    return float(ends + ((low - 1) ** 2 * (1 + 10 * wave**2)).sum()), g / 4


def powell(p: Array) -> tuple[float, Array]:
    a, b, c, d = p
    r, s, t, u = a + 10 * b, c - d, b - 2 * c, a - d
    g = [2 * r + 40 * u**3, 20 * r + 4 * t**3, 10 * s - 8 * t**3, -10 * s - 40 * u**3]
    return float(r**2 + 5 * s**2 + t**4 + 10 * u**4), np.array(g)


def wood(p: Array) -> tuple[float, Array]:
    a, b, c, d = p
    one, two = b - a * a, d - c * c
    f = 100 * one**2 + (1 - a) ** 2 + 90 * two**2 + (1 - c) ** 2
    f += 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)
    g = [
        -400 * a * one - 2 * (1 - a),
        200 * one + 20.2 * (b - 1) + 19.8 * (d - 1),
        -360 * c * two - 2 * (1 - c),
        180 * two + 20.2 * (d - 1) + 19.8 * (b - 1),
    ]
    return float(f), np.array(g)


def dixon_price(x: Array) -> tuple[float, Array]:
    i = np.arange(2, len(x) + 1)
    r = 2 * x[1:] ** 2 - x[:-1]
    g = np.zeros_like(x)
    g[0] = 2 * (x[0] - 1)
    g[1:] += 8 * i * r * x[1:]
    g[:-1] -= 2 * i * r
    return float((x[0] - 1) ** 2 + i @ r**2), g


def log_sum_exp() -> FunAndGrad:
    rng = np.random.default_rng(15)
    matrix, shift = rng.normal(size=(40, 10)), rng.normal(size=40)

    def f(x: Array) -> tuple[float, Array]:
        z = matrix @ x + shift
        top = z.max()
        e = np.exp(z - top)
        return float(top + np.log(e.sum())), matrix.T @ e / e.sum()

    return f


def logistic_regression() -> FunAndGrad:
    rng = np.random.default_rng(16)
    x = rng.normal(size=(200, 12)) * np.geomspace(0.1, 3, 12)
    sign = np.sign(x @ rng.normal(size=12) + rng.normal(size=200))

    def f(w: Array) -> tuple[float, Array]:
        margin = sign * (x @ w)
        slope = -sign * np.exp(-np.logaddexp(0, margin)) / len(x)
        return float(np.logaddexp(0, -margin).mean() + 5e-4 * w @ w), x.T @ slope + 1e-3 * w

    return f


def least_squares() -> FunAndGrad:
    rng = np.random.default_rng(17)
    x = rng.normal(size=(60, 20))
    y = x @ rng.normal(size=20) + rng.normal(size=60)
    return lambda w: (float(((x @ w - y) ** 2).mean()) / 2, x.T @ (x @ w - y) / len(y))


def huber_fit() -> FunAndGrad:
    rng = np.random.default_rng(18)
    x = np.c_[np.ones(80), rng.uniform(0, 5, size=(80, 4))]
    y = x @ [3.0, -1.0, 0.5, 2.0, 0.0] + 0.3 * rng.normal(size=80)
    y[::8] += 20

    def f(w: Array) -> tuple[float, Array]:
        r = x @ w - y
        inside = np.clip(r, -1, 1)
        return float((inside * (r - inside / 2)).mean()), x.T @ inside / len(y)

    return f


def factorisation(rows: int = 12, columns: int = 10, rank: int = 2) -> FunAndGrad:
    rng = np.random.default_rng(19)
    target = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))

    def f(x: Array) -> tuple[float, Array]:
        u, v = x[: rows * rank].reshape(rows, rank), x[rows * rank :].reshape(rank, columns)
        r = u @ v - target
        return float((r**2).sum()) / 2, np.concatenate([(r @ v.T).ravel(), (u.T @ r).ravel()])

    return f


def poisson_regression() -> FunAndGrad:
    rng = np.random.default_rng(20)
    x = np.c_[np.ones(100), rng.normal(size=(100, 5))]
    y = rng.poisson(np.exp(x @ [1.0, 0.5, -0.5, 0.3, 0.0, 0.2]))

    def f(w: Array) -> tuple[float, Array]:
        z = x @ w
        return float((np.exp(z) - y * z).mean()), x.T @ (np.exp(z) - y) / len(y)

    return f


@cache
def functions() -> tuple[Function, ...]:
    """All of them."""
    draw = np.random.default_rng(0).normal
    one = Function
    return (
        one("rosenbrock-2", rosenbrock, np.array([-1.2, 1.0])),
        one("rosenbrock-10", rosenbrock, np.tile([-1.2, 1.0], 5)),
        one("quadratic-10", quadratic(10), np.ones(10)),
        one("quadratic-1e3", quadratic(1e3), np.ones(10)),
        one("quadratic-1e5", quadratic(1e5), np.ones(10)),
        one("beale", beale, np.array([1.0, 1.0])),
        one("booth", booth, np.zeros(2)),
        one("himmelblau", himmelblau, np.ones(2)),
        one("styblinski-tang", styblinski_tang, np.zeros(5), -5 * 39.166165703771419),
        one("ackley", ackley, np.linspace(0.2, 0.4, 5)),
        one("levy", levy, np.full(5, 3.0)),
        one("powell", powell, np.array([3.0, -1.0, 0.0, 1.0])),
        one("wood", wood, np.array([-3.0, -1.0, -3.0, -1.0])),
        one("dixon-price", dixon_price, np.ones(6)),
        one("log-sum-exp", log_sum_exp(), np.zeros(10), None),
        one("logistic-regression", logistic_regression(), np.zeros(12), None),
        one("least-squares", least_squares(), np.zeros(20), None),
        one("huber-fit", huber_fit(), np.zeros(5), None),
        one("factorisation", factorisation(), 0.5 * draw(size=44)),
        one("poisson-regression", poisson_regression(), np.zeros(6), None),
    )
