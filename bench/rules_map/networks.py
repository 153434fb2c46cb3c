"""Small networks and problems of matrices, with gradients by hand."""

from __future__ import annotations

import itertools

import numpy as np
from problem import Array, Params, Task, problem, rotation, spectrum


def dense(rng, *sizes: int) -> Params:
    made = {}
    for k, (before, after) in enumerate(itertools.pairwise(sizes)):
        made[f"layer{k}/w"] = rng.standard_normal((after, before)) / np.sqrt(before)
        made[f"layer{k}/b"] = np.zeros(after)
    return made


def forward(p: Params, x: Array) -> list[Array]:
    """The activations, tanh in between; the last ones are linear."""
    seen, layers = [x], len(p) // 2
    for k in range(layers):
        out = seen[-1] @ p[f"layer{k}/w"].T + p[f"layer{k}/b"]
        seen.append(np.tanh(out) if k + 1 < layers else out)
    return seen


def backward(p: Params, seen: list[Array], slope: Array) -> Params:
    grads: Params = {}
    for k in reversed(range(len(p) // 2)):
        grads[f"layer{k}/w"] = slope.T @ seen[k]
        grads[f"layer{k}/b"] = slope.sum(0)
        if k:
            slope = (slope @ p[f"layer{k}/w"]) * (1 - seen[k] ** 2)
    return {key: grads[key] for key in p}


def softmax_loss(out: Array, labels: Array) -> tuple[float, Array]:
    shifted = out - out.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    slope = np.exp(logs)
    rows = np.arange(len(labels))
    slope[rows, labels] -= 1
    return float(-logs[rows, labels].mean()), slope / len(labels)


@problem("networks", 0.1, 0.5, 1.0, 1.5)
def two_spirals(rng, turns):
    """A network of 2, 16, 16 and 2 units tells two spirals apart;"""
    t = np.tile(np.linspace(0.2, 1, 60), 2)
    labels = np.repeat([0, 1], 60)
    angle = 2 * np.pi * turns * t + np.pi * labels
    x = 2 * np.stack([t * np.cos(angle), t * np.sin(angle)], 1)
    x += 0.02 * rng.standard_normal(x.shape)

    def both(p: Params) -> tuple[float, Params]:
        seen = forward(p, x)
        loss, slope = softmax_loss(seen[-1], labels)
        return loss, backward(p, seen, slope)

    start = dense(rng, 2, 16, 16, 2)
    return Task(start, both, lambda p: softmax_loss(forward(p, x)[-1], labels)[0])


@problem("networks", 0.05, 1, 2, 4)
def a_curve(rng, waves):
    """A network of 1, 24 and 1 units fits a sum of waves by batches of 32;"""
    x = np.linspace(-1, 1, 256)[:, None]
    wanted = np.sin(np.pi * waves * x) + 0.3 * np.cos(2 * np.pi * waves * x)
    draws = np.random.default_rng(rng.integers(2**32))

    def gradient(p: Params) -> tuple[float, Params]:
        rows = draws.integers(256, size=32)
        seen = forward(p, x[rows])
        rest = seen[-1] - wanted[rows]
        return float(np.mean(rest**2)), backward(p, seen, 2 * rest / 32)

    def error(p: Params) -> float:
        return float(np.mean((forward(p, x)[-1] - wanted) ** 2))

    start = dense(rng, 1, 24, 1)
    start["layer0/w"] *= 4
    start["layer0/b"] = 4 * rng.uniform(-1, 1, 24)
    return Task(start, gradient, error)


@problem("networks", 0.1, 2, 4, 8)
def autoencoder(rng, hidden_units):
    """An autoencoder of 20 features that as many factors as hidden units have made;"""
    hidden = int(hidden_units)
    data = np.tanh(rng.standard_normal((200, hidden))) @ rng.standard_normal((hidden, 20))
    data += 0.02 * rng.standard_normal(data.shape)
    draws = np.random.default_rng(rng.integers(2**32))

    def gradient(p: Params) -> tuple[float, Params]:
        x = data[draws.integers(200, size=32)]
        seen = forward(p, x)
        rest = seen[-1] - x
        return float(np.mean(rest**2)), backward(p, seen, 2 * rest / rest.size)

    def error(p: Params) -> float:
        return float(np.mean((forward(p, data)[-1] - data) ** 2))

    return Task(dense(rng, 20, 16, hidden, 16, 20), gradient, error)


@problem("networks", 0.2, 4, 8, 16)
def remember(rng, steps_back):
    """A recurrent network of 16 units says the sum of the first two inputs of a sequence;"""
    length = int(steps_back)
    draws = np.random.default_rng(rng.integers(2**32))
    start = {
        "inside": rng.standard_normal((16, 16)) / 4,
        "in": rng.standard_normal((16, 1)),
        "out": rng.standard_normal((1, 16)) / 4,
    }

    def run(p: Params, x: Array) -> tuple[list[Array], Array]:
        states = [np.zeros((len(x), 16))]
        for t in range(length):
            states.append(np.tanh(states[-1] @ p["inside"].T + x[:, t, None] @ p["in"].T))
        return states, (states[-1] @ p["out"].T)[:, 0]

    def gradient(p: Params) -> tuple[float, Params]:
        x = draws.choice([-0.5, 0.5], (32, length))
        states, out = run(p, x)
        rest = out - x[:, 0] - x[:, 1]
        slope = 2 * rest[:, None] / len(rest)
        grads = {key: np.zeros_like(value) for key, value in p.items()}
        grads["out"] = slope.T @ states[-1]
        back = slope @ p["out"]
        for t in reversed(range(length)):
            back = back * (1 - states[t + 1] ** 2)
            grads["inside"] += back.T @ states[t]
            grads["in"] += back.T @ x[:, t, None]
            back = back @ p["inside"]
        return float(np.mean(rest**2)), grads

    seen = np.random.default_rng(5).choice([-0.5, 0.5], (200, length))

    def error(p: Params) -> float:
        return float(np.mean((run(p, seen)[1] - seen[:, 0] - seen[:, 1]) ** 2))

    return Task(start, gradient, error)


@problem("matrices", 1e-3, 3, 30, 300)
def curvature_of_rows_and_columns(rng, condition):
    """|A (X - B) C|^2 with a 16 x 16 matrix X: the curvature is a product of one for each axis;"""
    left, right = (
        rotation(rng, 16) * np.sqrt(spectrum(16, condition)) @ rotation(rng, 16) for _ in range(2)
    )
    best = rng.standard_normal((16, 16))

    def both(p: Params) -> tuple[float, Params]:
        rest = left @ (p["x"] - best) @ right
        return float(np.sum(rest**2)) / 2, {"x": left.T @ rest @ right.T}

    return Task({"x": np.zeros((16, 16))}, both, lambda p: both(p)[0])


@problem("matrices", 1e-2, 2, 4, 8)
def matrix_completion(rng, rank):
    """Two factors of a 30 x 30 matrix of low rank, of which half of the entries are known;"""
    rank = int(rank)
    whole = rng.standard_normal((30, rank)) @ rng.standard_normal((rank, 30)) / np.sqrt(rank)
    known = rng.random((30, 30)) < 0.5
    start = {"u": 0.3 * rng.standard_normal((30, rank)), "v": 0.3 * rng.standard_normal((30, rank))}

    def both(p: Params) -> tuple[float, Params]:
        rest = known * (p["u"] @ p["v"].T - whole)
        return float(np.sum(rest**2)) / 2 / 30, {"u": rest @ p["v"] / 30, "v": rest.T @ p["u"] / 30}

    return Task(start, both, lambda p: both(p)[0])


@problem("matrices", 1e-2, 3, 10, 30)
def whitening(rng, condition):
    """A matrix that turns a covariance into the identity;"""
    turn = rotation(rng, 10)
    covariance = turn @ np.diag(spectrum(10, condition)) @ turn.T * np.sqrt(condition)

    def both(p: Params) -> tuple[float, Params]:
        w = p["w"]
        rest = w @ covariance @ w.T - np.eye(10)
        return float(np.sum(rest**2)) / 4, {"w": rest @ w @ covariance}

    return Task({"w": np.eye(10)}, both, lambda p: both(p)[0])
