"""Tasks of other kinds than those of tuning.py.

A recurrent network, density estimation with a loss below zero, a barrier that is NaN outside its
domain, centroids of raw data, negative sampling, a matrix inverse, rare labels with a summed loss.
"""

from __future__ import annotations

import models
import numpy as np
from models import Batch, Params

from tasks.data import bundled, scaled, text

Row = tuple


def recurrent(length: int, width: int) -> tuple:
    """A tanh recurrent network that reads pairs and predicts one number at its end."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "read": (rng.standard_normal((2, width)) * 0.5).astype(np.float32),
            "turn": (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32),
            "bias": np.zeros(width, np.float32),
            "out": (rng.standard_normal((width, 1)) / np.sqrt(width)).astype(np.float32),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x, y = batch
        states = [np.zeros((len(x), len(params["bias"])), np.float32)]
        for t in range(length):
            z = x[:, t] @ params["read"] + states[-1] @ params["turn"] + params["bias"]
            states.append(np.tanh(z))
        loss, d = models.square_head(states[-1] @ params["out"], y)
        grads = {k: np.zeros_like(v) for k, v in params.items()}
        grads["out"] = states[-1].T @ d
        d = d @ params["out"].T
        for t in reversed(range(length)):
            d = d * (1 - np.square(states[t + 1]))
            grads["read"] += x[:, t].T @ d
            grads["turn"] += states[t].T @ d
            grads["bias"] += d.sum(axis=0)
            d = d @ params["turn"].T
        return loss, grads

    return init, value_and_grad


def density(size: int) -> tuple:
    """A normal law with learnt mean and triangular precision; its loss goes far below zero."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "mean": (rng.standard_normal(size) * 0.3).astype(np.float64),
            "log": np.zeros(size),
            "lower": np.zeros((size, size)),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x = batch[0].astype(np.float64) - params["mean"]
        scale = np.exp(params["log"])
        inner = x + x @ np.tril(params["lower"], -1).T
        z = inner * scale
        n = len(x)
        loss = 0.5 * float(np.sum(np.square(z)) / n) - float(params["log"].sum())
        d = z * scale / n
        return loss, {
            "mean": -(d.sum(axis=0) + np.tril(params["lower"], -1).T @ d.sum(axis=0)),
            "log": np.sum(np.square(z), axis=0) / n - 1,
            "lower": np.tril(d.T @ x, -1),
        }

    return init, value_and_grad


def barrier(walls: np.ndarray) -> tuple:
    """A linear cost inside walls: `batch = (cost,)`; outside the loss is not a number."""

    def init(rng: np.random.Generator) -> Params:
        return {"x": rng.standard_normal(walls.shape[1]) * 0.05}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        room = 1 - walls @ params["x"]
        cost = batch[0].mean(axis=0)
        if room.min() <= 0:
            return np.nan, {"x": np.full_like(params["x"], np.nan)}
        loss = float(cost @ params["x"] - 0.05 * np.log(room).sum())
        return loss, {"x": cost + 0.05 * walls.T @ (1 / room)}

    return init, value_and_grad


def centroids(count: int, size: int, centre: np.ndarray) -> tuple:
    """Half the squared distance to the nearest of some points."""

    def init(rng: np.random.Generator) -> Params:
        return {"c": (centre * (1 + 0.1 * rng.standard_normal((count, size)))).astype(np.float32)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        away = params["c"][None] - batch[0][:, None]
        squares = np.sum(np.square(away, dtype=np.float64), axis=2)
        near = squares.argmin(axis=1)
        rows = np.arange(len(near))
        grad = np.zeros_like(params["c"])
        np.add.at(grad, near, away[rows, near] / np.float32(len(near)))
        return 0.5 * float(squares[rows, near].mean()), {"c": grad}

    return init, value_and_grad


def sampling(vocabulary: int, width: int) -> tuple:
    """Skip-gram with one negative sample: `batch = (centre, context, other)`."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "in": ((rng.random((vocabulary, width)) - 0.5) / width).astype(np.float32),
            "out": (rng.standard_normal((vocabulary, width)) * 0.1).astype(np.float32),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        i, j, k = batch
        u, v, w = params["in"][i], params["out"][j], params["out"][k]
        near, far = np.sum(u * v, axis=1), np.sum(u * w, axis=1)
        loss = float(np.mean(np.logaddexp(0, -near) + np.logaddexp(0, far)))
        a = (-1 / (1 + np.exp(near)) / len(i)).astype(np.float32)[:, None]
        b = (1 / (1 + np.exp(-far)) / len(i)).astype(np.float32)[:, None]
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        np.add.at(grads["in"], i, a * v + b * w)
        np.add.at(grads["out"], j, a * u)
        np.add.at(grads["out"], k, b * u)
        return loss, grads

    return init, value_and_grad


def inverse(size: int, matrix: np.ndarray) -> tuple:
    """Half the squared error of a matrix inverse, without noise."""

    def init(rng: np.random.Generator) -> Params:
        return {"x": rng.standard_normal((size, size)) * 0.1}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        off = matrix @ params["x"] - np.eye(size)
        return 0.5 * float(np.vdot(off, off)), {"x": matrix.T @ off}

    return init, value_and_grad


def rows() -> list[Row]:
    """Name, functions, data, batch size and steps of each task."""
    letters, wine = text(), bundled("wine")[0]
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, np.pi, 600)
    side = rng.permutation(600) % 2
    moons = np.stack([np.cos(angle) + side, np.sin(angle)], 1) * np.where(side, -1, 1)[:, None]
    moons = (moons + side[:, None] * [1.0, 0.5]).astype(np.float32)
    moons += (0.15 * rng.standard_normal(moons.shape)).astype(np.float32)
    x = rng.random((800, 10)).astype(np.float32)
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3]
    y = (y + 5 * x[:, 4] + rng.standard_normal(800)).astype(np.float32)
    wide = rng.standard_normal((1500, 20)).astype(np.float32)
    rare = (wide[:, :3].sum(axis=1) > 3.2).astype(np.float32)
    line = models.mlp([20, 1], models.logistic_head)
    pairs = rng.random((1200, 12, 2)).astype(np.float32)
    marks = np.stack([rng.permutation(12)[:2] for _ in range(1200)])
    pairs[:, :, 1] = 0
    np.put_along_axis(pairs[:, :, 1], marks, 1, axis=1)
    total = np.sum(pairs[:, :, 0] * pairs[:, :, 1], axis=1).astype(np.float32)
    close = (rng.standard_normal((800, 4)) @ rng.standard_normal((4, 4)) * 0.05).astype("f")
    walls = rng.standard_normal((40, 12))
    costs = rng.standard_normal(12) + 0.5 * rng.standard_normal((512, 12))
    u, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    matrix = (u * np.geomspace(0.3, 6, 12)) @ u.T
    others = rng.permutation(letters[:6000])
    return [
        ("moons", *models.mlp([2, 24, 24, 1], models.logistic_head, "relu"),
         (moons, side.astype(np.float32)), 16, 400),
        ("friedman-raw-target", *models.mlp([10, 32, 1], models.square_head, "relu"), (x, y), 32,
         400),
        ("rare-summed", line[0], scaled(line[1], 64.0), (wide, rare), 64, 300),
        ("recurrent", *recurrent(12, 16), (pairs, total), 32, 500),
        ("density", *density(4), (close,), 32, 400),
        ("barrier", *barrier(walls), (costs,), 16, 300),
        ("centroids-raw", *centroids(4, 13, wine.mean(axis=0)), (wine,), 16, 300),
        ("skip-gram", *sampling(40, 12), (letters[:6000], letters[1:6001], others), 64, 400),
        ("inverse", *inverse(12, matrix), (np.zeros((1, 1)),), 1, 300),
    ]  # fmt: skip
