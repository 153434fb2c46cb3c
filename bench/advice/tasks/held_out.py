"""Tasks made after every decision about the advice: what it is worth elsewhere.

Raw pixels in a network, a raw target, ranking of pairs, principal components, residual layers, a
quantile, phases from magnitudes, a bag of characters, heavy tails, a Gaussian process.
"""

from __future__ import annotations

import models
import numpy as np
from models import Batch, Params

from tasks.data import bundled, windows

Row = tuple


def ranking(size: int) -> tuple:
    """A linear score that puts the first of two rows above the second: `batch = (high, low)`."""

    def init(rng: np.random.Generator) -> Params:
        return {"w": rng.standard_normal(size) * 0.1}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        apart = batch[0] - batch[1]
        margin = apart @ params["w"]
        pull = 1 / (1 + np.exp(np.clip(margin, -700, 700))) / len(margin)
        return float(np.mean(np.logaddexp(0, -margin))), {"w": -apart.T @ pull}

    return init, value_and_grad


def components(inputs: int, count: int) -> tuple:
    """Half the squared error of a reconstruction by one matrix, used both ways."""

    def init(rng: np.random.Generator) -> Params:
        return {"w": (rng.standard_normal((inputs, count)) * 0.1).astype(np.float32)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x, w = batch[0], params["w"]
        code = x @ w
        off = code @ w.T - x
        loss = 0.5 * float(np.sum(np.square(off, dtype=np.float64)) / len(x))
        return loss, {"w": (x.T @ (off @ w) + off.T @ code) / np.float32(len(x))}

    return init, value_and_grad


def residual(inputs: int, width: int, depth: int, classes: int) -> tuple:
    """Tanh layers that each add to what they read, between two linear maps, and softmax."""

    def init(rng: np.random.Generator) -> Params:
        def normal(rows: int, cols: int) -> np.ndarray:
            return (rng.standard_normal((rows, cols)) / np.sqrt(rows)).astype(np.float32)

        inner = {f"w{k}": normal(width, width) for k in range(depth)}
        return {"in": normal(inputs, width), **inner, "out": normal(width, classes)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        states, bends = [batch[0] @ params["in"]], []
        for k in range(depth):
            bends.append(np.tanh(states[-1] @ params[f"w{k}"]))
            states.append(states[-1] + bends[-1])
        loss, d = models.softmax_head(states[-1] @ params["out"], batch[1])
        grads = {"out": states[-1].T @ d}
        d = d @ params["out"].T
        for k in reversed(range(depth)):
            dz = d * (1 - np.square(bends[k]))
            grads[f"w{k}"] = states[k].T @ dz
            d = d + dz @ params[f"w{k}"].T
        grads["in"] = batch[0].T @ d
        return loss, {name: grads[name] for name in params}

    return init, value_and_grad


def pinball_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss whose minimum is the 0.9 quantile."""
    d = y[:, None] - out
    slope = np.where(d > 0, -0.9, 0.1).astype(out.dtype)
    return float(np.mean(-slope * d, dtype=np.float64)), slope / np.float32(len(y))


def student_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Minus the log-likelihood of Student's law of three degrees, learnt place and log-scale."""
    z = (y - out[:, 0]) * np.exp(-out[:, 1])
    loss = float(np.mean(2 * np.log1p(np.square(z) / 3) + out[:, 1]))
    pull = 4 * z / (3 + np.square(z))
    d = np.stack([-pull * np.exp(-out[:, 1]), 1 - pull * z], axis=1)
    return loss, (d / np.float32(len(y))).astype(out.dtype)


def phases(size: int) -> tuple:
    """A vector from the squares of its projections: `batch = (direction, square)`."""

    def init(rng: np.random.Generator) -> Params:
        return {"x": rng.standard_normal(size) * 0.5}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        seen = batch[0] @ params["x"]
        off = np.square(seen) - batch[1]
        loss = 0.25 * float(np.mean(np.square(off)))
        return loss, {"x": batch[0].T @ (off * seen) / len(off)}

    return init, value_and_grad


def bag(vocabulary: int, width: int) -> tuple:
    """The next character from the mean of the vectors of those before it."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "embed": (rng.standard_normal((vocabulary, width)) * 0.5).astype(np.float32),
            "out": (rng.standard_normal((width, vocabulary)) * 0.1).astype(np.float32),
            "bias": np.zeros(vocabulary, np.float32),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x, y = batch
        h = params["embed"][x].mean(axis=1)
        loss, d = models.softmax_head(h @ params["out"] + params["bias"], y)
        each = (d @ params["out"].T / np.float32(x.shape[1]))[:, None]
        embed = np.zeros_like(params["embed"])
        np.add.at(embed, x, np.broadcast_to(each, (*x.shape, each.shape[2])))
        return loss, {"embed": embed, "out": h.T @ d, "bias": d.sum(axis=0)}

    return init, value_and_grad


def process(x: np.ndarray, y: np.ndarray) -> tuple:
    """Minus the log evidence of a Gaussian process: logs of height, length and noise."""
    squares = np.square(x[:, None] - x[None])

    def init(rng: np.random.Generator) -> Params:
        return {"log": np.array([0.0, 0.0, -1.0]) + 0.3 * rng.standard_normal(3)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        height, length, noise = np.exp(2 * params["log"])
        smooth = height * np.exp(-0.5 * squares / length)
        try:
            inverse = np.linalg.inv(smooth + noise * np.eye(len(x)))
        except np.linalg.LinAlgError:
            return np.nan, {"log": np.full(3, np.nan)}
        sign, spread = np.linalg.slogdet(inverse)
        weights = inverse @ y
        loss = 0.5 * float(y @ weights - spread) if sign > 0 else np.nan
        inner = 0.5 * (inverse - np.outer(weights, weights))
        slopes = (2 * smooth, smooth * squares / length, 2 * noise * np.eye(len(x)))
        return loss, {"log": np.array([float(np.vdot(inner, s)) for s in slopes])}

    return init, value_and_grad


def rows() -> list[Row]:
    """Name, functions, data, batch size and steps of each task."""
    letters, digits, diabetes = windows(8), bundled("digits"), bundled("diabetes")
    wine = bundled("wine")[0]
    rng = np.random.default_rng(41)
    x, y = digits
    body, ill = diabetes
    body = (body / body.std(axis=0)).astype(np.float32)
    first, second = rng.integers(0, len(ill), (2, 1500))
    above = np.where(ill[first] > ill[second], first, second)
    below = np.where(ill[first] > ill[second], second, first)
    unit = ((wine - wine.mean(axis=0)) / wine.std(axis=0)).astype(np.float32)
    given = rng.random((800, 6)).astype(np.float32)
    spread = given[:, 0] + np.sin(6 * given[:, 1]) + given[:, 2] * rng.exponential(1, 800)
    heavy = given @ rng.standard_normal(6) + 0.2 * rng.standard_t(2, 800)
    ways = rng.standard_normal((400, 12))
    magnitudes = np.square(ways @ rng.standard_normal(12)) + 0.1 * rng.standard_normal(400)
    times = np.sort(rng.random(40)) * 6
    seen = np.sin(times) + 0.5 * np.sin(3 * times) + 0.1 * rng.standard_normal(40)
    return [
        ("digits-raw-relu", *models.mlp([64, 32, 10], models.softmax_head, "relu"), (x, y), 16,
         400),
        ("proline-raw-target", *models.mlp([12, 16, 1], models.square_head),
         (unit[:, :12], wine[:, 12].astype(np.float32)), 16, 300),
        ("ranking", *ranking(10), (body[above], body[below]), 8, 400),
        ("components", *components(64, 6), (x / np.float32(16),), 64, 300),
        ("residual", *residual(64, 24, 4, 10), (x / np.float32(16), y), 32, 300),
        ("pinball", *models.mlp([6, 16, 1], pinball_head), (given, spread.astype(np.float32)), 32,
         400),
        ("phases", *phases(12), (ways, magnitudes), 40, 300),
        ("bag", *bag(40, 16), letters, 64, 400),
        ("student", *models.mlp([6, 12, 2], student_head), (given, heavy.astype(np.float32)), 32,
         400),
        ("process", *process(times, seen), (np.zeros((1, 1)),), 1, 200),
    ]  # fmt: skip
