"""Faults planted in gradients that are right, and the causes that name each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from models import Model, Params

Function = Callable[[Params, Any], Any]
NOISE = {"drawn": 0.2, "hidden": 0.003}  # relative, of the first array of the batch


@dataclass(frozen=True)
class Fault:
    """A change of the gradient of one leaf; `leaf` is the role of that leaf in `Model`."""

    name: str
    leaf: str
    causes: tuple[str, ...]
    plant: Callable[[Model, Function, str], Function]


def noisy(model: Model, kind: str) -> Function:
    """The function of the model with the same noise in loss and gradient, fresh at each call."""
    generator = np.random.default_rng(7)
    count = itertools.count()

    def function(params: Params, batch: Any) -> Any:
        first, *rest = batch
        if kind == "exact":
            return model.core(params, batch)
        # A generator that nobody else can reach, as of another process or of the system.
        drawn = generator if kind == "drawn" else np.random.default_rng((8, next(count)))
        factor = 1 + NOISE[kind] * drawn.standard_normal(first.shape)
        return model.core(params, (first * factor.astype(first.dtype), *rest))

    return function


def without_part(function: Function) -> Function:
    return lambda params, batch: function(params, batch)[:2]


def changed(change: Callable[[Model, Any, Any], Any]) -> Callable[..., Function]:
    """A fault that is a function of gradient and parameter."""

    def plant(model: Model, function: Function, leaf: str) -> Function:
        def wrong(params: Params, batch: Any) -> Any:
            loss, grads, _ = function(params, batch)
            new = np.asarray(change(model, grads[leaf], params[leaf]))
            return loss, grads | {leaf: new.astype(grads[leaf].dtype)}

        return wrong

    return plant


def one_use(model: Model, function: Function, leaf: str) -> Function:
    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, part = function(params, batch)
        return loss, grads | {leaf: part}

    return wrong


def decay(share: float) -> Callable[..., Function]:
    """A decay in the loss, whose gradient is a share of that of the loss."""

    def plant(model: Model, function: Function, leaf: str) -> Function:
        x = model.params[leaf]
        g = model.core(model.params, model.batch)[1][leaf]
        strength = x.dtype.type(share * np.linalg.norm(g) / np.linalg.norm(x))

        def wrong(params: Params, batch: Any) -> Any:
            loss, grads, _ = function(params, batch)
            return loss + strength / 2 * (params[leaf] ** 2).sum(), grads

        return wrong

    return plant


def stale(model: Model, function: Function, leaf: str) -> Function:
    kept: list[Any] = []

    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, _ = function(params, batch)
        old = kept[-1] if kept else grads[leaf]
        kept[:] = [grads[leaf].copy()]
        return loss, grads | {leaf: old}

    return wrong


def changes_params(model: Model, function: Function, leaf: str) -> Function:
    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, _ = function(params, batch)
        params[leaf] *= 0.99
        return loss, grads

    return wrong


def changes_batch(model: Model, function: Function, leaf: str) -> Function:
    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, _ = function(params, batch)
        batch[0][...] *= 0.9
        return loss, grads

    return wrong


def jitters(model: Model, function: Function, leaf: str) -> Function:
    """A gradient that is another one at each call, as of memory that nobody has set."""
    count = itertools.count()

    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, _ = function(params, batch)
        noise = np.random.default_rng((9, next(count))).standard_normal(grads[leaf].shape)
        g = grads[leaf]
        return loss, grads | {leaf: (g * (1 + 0.3 * noise)).astype(g.dtype)}

    return wrong


def other_draw(model: Model, function: Function, leaf: str) -> Function:
    """The gradient of a second draw of the noise: a mask made anew on the way back."""

    def wrong(params: Params, batch: Any) -> Any:
        loss, grads, _ = function(params, batch)
        return loss, grads | {leaf: function(params, batch)[1][leaf]}

    return wrong


def order(n: int, seed: int) -> Any:
    """A permutation that is no shift and no reversal."""
    if n < 4:  # a reversal that is shifted: there is no other
        return np.array([1, 0, *range(2, n)])
    rng = np.random.default_rng(seed)
    while True:
        found = rng.permutation(n)
        steps = np.diff(found) % n
        if len(set(steps.tolist())) > 1:
            return found


SEEN = [
    Fault("sign", "rows", ("sign_flipped",), changed(lambda m, g, x: -g)),
    Fault("twice missing", "square", ("factor",), changed(lambda m, g, x: g / 2)),
    Fault("sum for mean", "rows", ("factor",), changed(lambda m, g, x: g * m.size)),
    Fault("transposed", "square", ("transposed",), changed(lambda m, g, x: np.swapaxes(g, 0, 1))),
    Fault("shifted", "rows", ("shifted",), changed(lambda m, g, x: np.roll(g, 1, 0))),
    Fault("permuted", "rows", ("permuted",), changed(lambda m, g, x: g[order(len(g), 1)])),
    Fault("decay", "square", ("missing_decay",), decay(0.3)),
    Fault("one use", "shared", ("one_use",), one_use),
    Fault("stale", "rows", ("stale",), stale),
    Fault("zero", "square", ("zero",), changed(lambda m, g, x: 0 * g)),
    Fault("changes params", "rows", ("changes_params",), changes_params),
    Fault("changes batch", "", ("changes_batch",), changes_batch),
    Fault("jitters", "square", ("not_deterministic",), jitters),
    Fault("other draw", "rows", ("not_deterministic",), other_draw),
]
UNSEEN = [
    Fault("sign, shared", "shared", ("sign_flipped",), changed(lambda m, g, x: -g)),
    Fault("half missing", "rows", ("factor",), changed(lambda m, g, x: 2 * g)),
    Fault("mean for sum", "square", ("factor",), changed(lambda m, g, x: g / m.size)),
    Fault("outputs", "shared", ("factor",), changed(lambda m, g, x: g * m.outputs)),
    Fault("shifted back", "square", ("shifted",), changed(lambda m, g, x: np.roll(g, -1, 1))),
    Fault("weak decay", "shared", ("missing_decay",), decay(0.1)),
    Fault("strong decay", "rows", ("missing_decay",), decay(1.0)),
    Fault("zero, shared", "shared", ("zero",), changed(lambda m, g, x: 0 * g)),
    Fault("stale, shared", "shared", ("stale",), stale),
]
RIGHT = Fault("right", "", (), lambda model, function, leaf: without_part(function))
