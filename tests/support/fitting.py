"""A small problem to train, and ways to compare runs bit for bit."""

import numpy as np

import stepsize as ss

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X @ [1.0, -2.0, 3.0] + 0.5 + np.random.default_rng(1).normal(size=40) / 10


def make_params():
    return {"w": np.zeros(3, np.float32), "b": np.zeros(1)}


def value_and_grad(params, batch):
    x, y = batch
    error = x @ params["w"] + params["b"] - y
    grads = {"w": (2 * x.T @ error / len(y)).astype("f4"), "b": np.array([2 * error.mean()])}
    return np.mean(error**2), grads


def linear(params, batch):
    """Least squares without an offset."""
    x, y = batch
    error = x @ params["w"] - y
    return float((error**2).mean()), {"w": 2 * x.T @ error / len(y)}


def fit(params, optimizer=None, train=(X, Y), **options):
    options = {"epochs": 3, "batch_size": 8, "progress": False} | options
    return ss.fit(value_and_grad, params, optimizer or ss.Adam(params, lr=0.1), train, **options)


def bits(params):
    return {name: leaf.tobytes() for name, leaf in params.items()}


def batches(size=8):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, len(X), size)]
