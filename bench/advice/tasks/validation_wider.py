"""More tasks of other kinds, first measured before a change of the advice and then looked at.

Attention over text, batch normalisation, Bernoulli outputs with a summed loss, triplets, completion
from two entries at a time, outliers, the constants of a differential equation, a mixture density,
survival times, features whose scales differ by ten thousand, and a polynomial fit.
"""

from __future__ import annotations

import models
import numpy as np
from models import Batch, Params

from tasks.data import bundled, windows

Row = tuple


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def attention(vocabulary: int, context: int, width: int) -> tuple:
    """Next character by one head of attention, asked from the last place, and a residual sum."""

    def init(rng: np.random.Generator) -> Params:
        square = {k: _normal(rng, width, width) for k in ("query", "key", "value")}
        return {
            "embed": rng.standard_normal((vocabulary, width)).astype(np.float32),
            "place": (rng.standard_normal((context, width)) * 0.3).astype(np.float32),
            **square,
            "out": _normal(rng, width, vocabulary) * np.float32(0.3),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        scale = np.float32(1 / np.sqrt(width))
        x = params["embed"][batch[0]] + params["place"]
        last = x[:, -1]
        q = last @ params["query"] * scale
        keys, values = x @ params["key"], x @ params["value"]
        a = np.einsum("bw,btw->bt", q, keys)
        a = np.exp(a - a.max(axis=1, keepdims=True))
        a /= a.sum(axis=1, keepdims=True)
        h = last + np.einsum("bt,btw->bw", a, values)
        loss, d = models.softmax_head(h @ params["out"], batch[1])
        dh = d @ params["out"].T
        da = np.einsum("bw,btw->bt", dh, values)
        ds = a * (da - np.sum(a * da, axis=1, keepdims=True))
        dq = np.einsum("bt,btw->bw", ds, keys) * scale
        dk, dv = ds[:, :, None] * q[:, None], a[:, :, None] * dh[:, None]
        dx = dk @ params["key"].T + dv @ params["value"].T
        dx[:, -1] += dh + dq @ params["query"].T
        grads = {
            "embed": np.zeros_like(params["embed"]),
            "place": dx.sum(axis=0),
            "query": last.T @ dq,
            "key": np.einsum("btv,btw->vw", x, dk),
            "value": np.einsum("btv,btw->vw", x, dv),
            "out": h.T @ d,
        }
        np.add.at(grads["embed"], batch[0], dx)
        return loss, grads

    return init, value_and_grad


def normalised(sizes: tuple[int, int, int]) -> tuple:
    """One hidden layer behind batch normalisation, ReLU, softmax."""
    inputs, hidden, classes = sizes

    def init(rng: np.random.Generator) -> Params:
        return {
            "w": _normal(rng, inputs, hidden),
            "gain": np.ones(hidden, np.float32),
            "bias": np.zeros(hidden, np.float32),
            "out": _normal(rng, hidden, classes),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        x, y = batch
        z = x @ params["w"]
        deviation = np.sqrt(z.var(axis=0) + np.float32(1e-5))
        unit = (z - z.mean(axis=0)) / deviation
        h = unit * params["gain"] + params["bias"]
        loss, d = models.softmax_head(np.maximum(h, 0) @ params["out"], y)
        dh = (d @ params["out"].T) * (h > 0)
        du = dh * params["gain"]
        dz = (du - du.mean(axis=0) - unit * (du * unit).mean(axis=0)) / deviation
        return loss, {
            "w": x.T @ dz,
            "gain": np.sum(dh * unit, axis=0),
            "bias": dh.sum(axis=0),
            "out": np.maximum(h, 0).T @ d,
        }

    return init, value_and_grad


def bernoulli_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Cross-entropy of independent outputs in [0, 1], summed over outputs and rows."""
    loss = float(np.sum(np.logaddexp(0, out) - y * out, dtype=np.float64))
    return loss, (1 / (1 + np.exp(-out)) - y).astype(np.float32)


def huber_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Huber's loss with its corner at 1."""
    d = out - y[:, None]
    held = np.clip(d, -1, 1)
    loss = float(np.mean(held * (d - 0.5 * held), dtype=np.float64))
    return loss, held / np.float32(len(y))


def survival_head(out: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Exponential survival times, `y = (time, died)`, with a log link for the hazard."""
    hazard = np.exp(out[:, 0]) * y[:, 0]
    loss = float(np.mean(hazard - y[:, 1] * out[:, 0], dtype=np.float64))
    return loss, ((hazard - y[:, 1]) / np.float32(len(y)))[:, None]


def triplet(inputs: int, width: int) -> tuple:
    """A linear map that brings `anchor` nearer to `same` than to `other`, by a margin of 1."""

    def init(rng: np.random.Generator) -> Params:
        return {"w": _normal(rng, inputs, width) * np.float32(0.5)}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        near, far = batch[0] - batch[1], batch[0] - batch[2]
        u, v = near @ params["w"], far @ params["w"]
        margin = 1 + np.sum(np.square(u), axis=1) - np.sum(np.square(v), axis=1)
        active = ((margin > 0) * np.float32(2 / len(margin)))[:, None]
        loss = float(np.mean(np.maximum(margin, 0), dtype=np.float64))
        return loss, {"w": near.T @ (active * u) - far.T @ (active * v)}

    return init, value_and_grad


def mixture(parts: int, size: int) -> tuple:
    """Minus the log-likelihood of a mixture of round normal laws."""

    def init(rng: np.random.Generator) -> Params:
        return {
            "mean": rng.standard_normal((parts, size)),
            "log": np.zeros(parts),
            "share": np.zeros(parts),
        }

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        away = batch[0][:, None] - params["mean"]
        squares = np.sum(np.square(away), axis=2)
        tight = np.exp(-2 * params["log"])
        share = np.exp(params["share"] - np.logaddexp.reduce(params["share"]))
        each = np.log(share) - size * params["log"] - 0.5 * squares * tight
        total = np.logaddexp.reduce(each, axis=1)
        duty = np.exp(each - total[:, None]) / len(away)
        return -float(total.mean()), {
            "mean": -np.sum((duty * tight)[:, :, None] * away, axis=0),
            "log": np.sum(duty * (size - squares * tight), axis=0),
            "share": share - duty.sum(axis=0),
        }

    return init, value_and_grad


def oscillator(steps: int, dt: float) -> tuple:
    """Stiffness, damping and cubic term of a spring, from paths `(start, seen)` of Euler steps."""

    def init(rng: np.random.Generator) -> Params:
        return {"c": np.array([1.0, 0.5, 0.2]) * np.exp(0.3 * rng.standard_normal(3))}

    def value_and_grad(params: Params, batch: Batch) -> tuple[float, Params]:
        start, seen = batch
        k, b, cubic = params["c"]
        x, v = [start[:, 0]], [start[:, 1]]
        for _ in range(steps):
            force = -k * x[-1] - b * v[-1] - cubic * x[-1] ** 3
            v.append(v[-1] + dt * force)
            x.append(x[-1] + dt * v[-1])
        off = np.stack(x[1:], axis=1) - seen
        dx, dv, grad = np.zeros(len(start)), np.zeros(len(start)), np.zeros(3)
        for t in reversed(range(steps)):
            dx = dx + off[:, t] / len(start)
            dv = dv + dt * dx
            force = dt * dv
            grad -= [np.sum(force * x[t]), np.sum(force * v[t]), np.sum(force * x[t] ** 3)]
            dx = dx - force * (k + 3 * cubic * x[t] ** 2)
            dv = dv - force * b
        return 0.5 * float(np.mean(np.sum(np.square(off), axis=1))), {"c": grad}

    return init, value_and_grad


def _springs(rng: np.random.Generator, steps: int, dt: float) -> Batch:
    start = rng.standard_normal((300, 2))
    x, v = start.T.copy()
    seen = []
    for _ in range(steps):
        v = v + dt * (-2.5 * x - 0.2 * v - 0.6 * x**3)
        x = x + dt * v
        seen.append(x + 0.05 * rng.standard_normal(300))
    return start, np.stack(seen, axis=1)


def _triplets(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Batch:
    rows = rng.permutation(np.repeat(np.arange(len(y)), 2))
    same = np.array([rng.choice(np.flatnonzero(y == y[i])) for i in rows])
    other = np.array([rng.choice(np.flatnonzero(y != y[i])) for i in rows])
    return x[rows], x[same], x[other]


def rows() -> list[Row]:
    """Name, functions, data, batch size and steps of each task."""
    seen, digits, diabetes = windows(6), bundled("digits"), bundled("diabetes")
    rng = np.random.default_rng(23)
    x, y = digits
    small = x / np.float32(16)
    body, ill = diabetes
    unit = ((ill - ill.mean()) / ill.std()).astype(np.float32)
    wild = unit + np.where(rng.random(len(unit)) < 0.1, 30 * rng.standard_normal(len(unit)), 0)
    wide = np.exp(rng.standard_normal((900, 8)) * 0.5) * np.geomspace(0.02, 200, 8)
    told = np.log(wide / np.geomspace(0.02, 200, 8)) @ rng.standard_normal(8) > 0
    given = rng.standard_normal((1000, 6)).astype(np.float32)
    time = rng.exponential(np.exp(-1.0 + given @ rng.standard_normal(6) * 0.5))
    times = np.stack([np.minimum(time, 3), time < 3], axis=1).astype(np.float32)
    i, j = rng.integers(0, 50, 2500), rng.integers(0, 40, 2500)
    left, right = rng.standard_normal((50, 2)), rng.standard_normal((40, 2))
    stars = (3 + np.sum(left[i] * right[j], axis=1) + 0.2 * rng.standard_normal(2500)).astype("f")
    cloud = (
        rng.standard_normal((900, 3)) * 0.3 + 2 * rng.standard_normal((5, 3))[np.arange(900) % 5]
    )
    t = np.linspace(-1, 1, 60)
    powers = (t[:, None] ** np.arange(8)).astype(np.float32)
    wave = (np.sin(4 * t) + 0.05 * rng.standard_normal(60)).astype(np.float32)
    bits = models.mlp([64, 20, 64], bernoulli_head)
    return [
        ("attention", *attention(40, 6, 16), seen, 32, 400),
        ("digits-normalised", *normalised((64, 24, 10)), digits, 32, 300),
        ("bernoulli-summed", *bits, (small, small), 32, 300),
        ("triplets", *triplet(64, 8), _triplets(rng, small, y), 32, 300),
        ("completion-two", *models.factorisation(50, 40, 3), (i, j, stars), 2, 600),
        ("huber-outliers", *models.mlp([10, 16, 1], huber_head, "relu"),
         ((body / body.std(axis=0)).astype(np.float32), wild.astype(np.float32)), 16, 400),
        ("spring", *oscillator(40, 0.1), _springs(rng, 40, 0.1), 16, 200),
        ("mixture", *mixture(5, 3), (cloud,), 32, 400),
        ("survival", *models.mlp([6, 12, 1], survival_head), (given, times), 16, 300),
        ("scales-raw", *models.mlp([8, 1], models.logistic_head),
         (wide.astype(np.float32), told.astype(np.float32)), 32, 400),
        ("polynomial", *models.mlp([8, 1], models.square_head), (powers, wave), 60, 400),
    ]  # fmt: skip
