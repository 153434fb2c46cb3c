"""Small problems with gradients by hand, each with a leaf that is used twice.

A problem is `core(params, batch) -> (loss, grads, part)`, where `part` is the gradient of the
shared leaf with one of its uses left out. `kinked` puts a relu or an absolute value into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Params = dict[str, Any]
Sizes = tuple[int, ...]
Core = Callable[[Params, Any], tuple[Any, Params, Any]]


@dataclass(frozen=True)
class Model:
    """A problem: its function, start and data, and which leaves serve which fault."""

    name: str
    core: Core
    params: Params
    batch: tuple[Any, ...]
    shared: str  # used twice
    square: str  # a square matrix
    rows: str  # a matrix of several rows
    size: int  # of the batch
    outputs: int
    additive: bool = False  # its two uses are in terms of the loss that are added


def penalty(error: Any, kinked: bool) -> tuple[Any, Any]:
    """Half the squares, or absolute values, and their derivatives."""
    if kinked:
        return np.abs(error).sum(), np.sign(error)
    return (error * error).sum() / 2, error


def activation(z: Any, kinked: bool) -> tuple[Any, Any]:
    """Relu or tanh, and its derivative."""
    if kinked:
        return np.maximum(z, 0), (z > 0).astype(z.dtype)
    a = np.tanh(z)
    return a, 1 - a * a


def softmax_loss(logits: Any, target: Any) -> tuple[Any, Any]:
    """Mean cross-entropy and its derivative."""
    n = len(target)
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(n), target]).mean()
    p[np.arange(n), target] -= 1
    return loss, p / n


def arrays_of(rng: np.random.Generator, dtype: Any, **shapes: tuple[float, tuple[int, ...]]) -> Any:
    return {
        name: np.array(scale * rng.standard_normal(shape), dtype)
        for name, (scale, shape) in shapes.items()
    }


def linear(rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (24, 5)) -> Model:
    """Two data sets, one weight matrix."""
    n, d = sizes
    data = arrays_of(rng, dtype, x=(1, (n, d)), y=(1, (n, d)), x2=(1, (n, d)), y2=(1, (n, d)))
    params = arrays_of(rng, dtype, w=(0.5, (d, d)), b=(0.3, (d,)))

    def core(p: Params, batch: Any) -> Any:
        x, y, x2, y2 = batch
        one, d_one = penalty(x @ p["w"] + p["b"] - y, kinked)
        two, d_two = penalty(x2 @ p["w"] + p["b"] - y2, kinked)
        part = x.T @ d_one / n
        grads = {"w": part + x2.T @ d_two / n, "b": (d_one + d_two).sum(0) / n}
        return (one + two) / n, grads, part

    return Model("linear", core, params, tuple(data.values()), "w", "w", "w", n, d, True)


def mlp(rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (32, 6, 8, 3)) -> Model:
    """Two hidden layers with the same weights."""
    n, d, h, k = sizes
    data = arrays_of(rng, dtype, x=(1, (n, d)), y=(1, (n, k)))
    params = arrays_of(rng, dtype, u=(0.5, (d, h)), b=(0.2, (h,)), w=(0.5, (h, h)), v=(0.4, (h, k)))

    def core(p: Params, batch: Any) -> Any:
        x, y = batch
        a1, s1 = activation(x @ p["u"] + p["b"], kinked)
        a2, s2 = activation(a1 @ p["w"], kinked)
        a3, s3 = activation(a2 @ p["w"], kinked)
        error = a3 @ p["v"] - y
        e = error * x.dtype.type(2 / error.size)
        d3 = (e @ p["v"].T) * s3
        d2 = (d3 @ p["w"].T) * s2
        d1 = (d2 @ p["w"].T) * s1
        part = a2.T @ d3
        grads = {"u": x.T @ d1, "b": d1.sum(0), "w": part + a1.T @ d2, "v": a3.T @ e}
        return (error * error).mean(), grads, part

    return Model("mlp", core, params, tuple(data.values()), "w", "w", "u", n, k)


def embedding(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (40, 15, 6, 4)
) -> Model:
    """The mean of embedded words predicts the next one, with the same embedding."""
    n, words, d, length = sizes
    tokens = rng.integers(0, words, (n, length))
    target = rng.integers(0, words, n)
    weight = rng.uniform(0.5, 1.5, (n, length, 1)).astype(dtype)
    params = arrays_of(rng, dtype, e=(0.6, (words, d)), m=(0.6, (d, d)), b=(0.2, (words,)))

    def core(p: Params, batch: Any) -> Any:
        weight, tokens, target = batch
        mean = (weight * p["e"][tokens]).mean(axis=1)
        hidden, slope = activation(mean @ p["m"], kinked)
        loss, dl = softmax_loss(hidden @ p["e"].T + p["b"], target)
        dz = (dl @ p["e"]) * slope
        part = dl.T @ hidden
        whole = part.copy()
        spread = weight * (dz @ p["m"].T)[:, None, :] / length
        np.add.at(whole, tokens, spread.astype(whole.dtype))
        return loss, {"e": whole, "m": mean.T @ dz, "b": dl.sum(0)}, part

    return Model("embedding", core, params, (weight, tokens, target), "e", "m", "e", n, words)


def factorisation(
    rng: np.random.Generator, dtype: Any, kinked: bool, sizes: Sizes = (12, 9, 3, 5)
) -> Model:
    """Ratings from factors of rows and columns, and side information from those of rows."""
    n, m, k, side = sizes
    data = arrays_of(rng, dtype, x=(1, (n, m)), y=(1, (n, side)), c=(1, (k, side)))
    params = arrays_of(rng, dtype, a=(0.7, (n, k)), s=(0.8, (k, k)), b=(0.7, (m, k)))

    def core(p: Params, batch: Any) -> Any:
        x, y, c = batch
        left = p["a"] @ p["s"]
        one, d_one = penalty(left @ p["b"].T - x, kinked)
        two, d_two = penalty(p["a"] @ c - y, kinked)
        d_left = d_one @ p["b"]
        part = d_left @ p["s"].T
        grads = {"a": part + d_two @ c.T, "s": p["a"].T @ d_left, "b": d_one.T @ left}
        return one + two, grads, part

    return Model("factorisation", core, params, tuple(data.values()), "a", "s", "b", n, m, True)
