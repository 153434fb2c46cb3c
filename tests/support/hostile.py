"""What a stranger's code may do: functions that misbehave in one way each, and entry points."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import stepsize as ss
from cases import RULES, comparable

random = np.random.default_rng(5)
X = random.normal(size=(60, 3))
Y = X @ random.normal(size=(3, 2)) + 0.3


def make_params(dtype: Any = np.float64) -> dict[str, np.ndarray]:
    return {"w": np.full((3, 2), 0.1, dtype), "b": np.zeros(2, dtype)}


def clean(params: Any, batch: Any) -> Any:
    """Least squares: the loss and fresh gradients."""
    x, y = batch
    error = x @ params["w"] + params["b"] - y
    grads = {"w": 2 * x.T @ error / error.size, "b": 2 * error.sum(axis=0) / error.size}
    return float((error**2).mean()), grads


# Functions that compute what `clean` does. Each is made anew for a run, since some keep something.


def reuses_its_arrays() -> Callable[..., Any]:
    kept = {name: np.empty_like(leaf) for name, leaf in make_params().items()}

    def function(params, batch):
        loss, grads = clean(params, batch)
        for name, grad in grads.items():
            kept[name][...] = grad
        return loss, kept

    return function


def spoils_what_it_returned_before() -> Callable[..., Any]:
    last: list[Any] = []

    def function(params, batch):
        for grads in last:
            for grad in grads.values():
                grad[...] = np.nan
        loss, grads = clean(params, batch)
        last[:] = [grads]
        return loss, grads

    return function


def empties_its_dict_later() -> Callable[..., Any]:
    last: list[Any] = []

    def function(params, batch):
        for grads in last:
            grads.clear()
        loss, grads = clean(params, batch)
        last[:] = [grads]
        return loss, dict(grads) if not last else grads

    return function


def changed(change: Callable[[np.ndarray], Any]) -> Callable[[], Callable[..., Any]]:
    """A function whose gradients go through ``change``."""

    def make():
        def function(params, batch):
            loss, grads = clean(params, batch)
            return loss, {name: change(grad) for name, grad in grads.items()}

        return function

    return make


def with_loss(change: Callable[[float], Any]) -> Callable[[], Callable[..., Any]]:
    def make():
        def function(params, batch):
            loss, grads = clean(params, batch)
            return change(loss), grads

        return function

    return make


def spread(grad: np.ndarray) -> np.ndarray:
    """The values in memory with gaps between them."""
    wide = np.full((*grad.shape[:-1], 2 * grad.shape[-1]), np.nan)
    wide[..., ::2] = grad
    return wide[..., ::2]


def misaligned(grad: np.ndarray) -> np.ndarray:
    raw = np.empty(grad.nbytes + 1, np.uint8)[1:].view(grad.dtype).reshape(grad.shape)
    raw[...] = grad
    return raw


def read_only(grad: np.ndarray) -> np.ndarray:
    grad.flags.writeable = False
    return grad


class Tagged(np.ndarray):
    """A subclass, as units packages have them."""


SAME = {
    "reuses its arrays": reuses_its_arrays,
    "spoils what it returned before": spoils_what_it_returned_before,
    "empties its dict later": empties_its_dict_later,
    "gradients with gaps": changed(spread),
    "Fortran order": changed(np.asfortranarray),
    "reversed memory": changed(lambda g: g[::-1].copy()[::-1]),
    "misaligned": changed(misaligned),
    "read-only": changed(read_only),
    "a subclass": changed(lambda g: g.view(Tagged)),
    "a view of a larger array": changed(lambda g: np.stack([g, g])[1]),
    "loss as a NumPy number": with_loss(np.float64),
    "loss of no axes": with_loss(np.array),
}

# What is no loss and gradient of these parameters: refused, with nothing changed.


def answers(value: Any) -> Callable[[], Callable[..., Any]]:
    return lambda: lambda params, batch: value


def without(name: str) -> Callable[[], Callable[..., Any]]:
    def make():
        def function(params, batch):
            loss, grads = clean(params, batch)
            del grads[name]
            return loss, grads

        return function

    return make


def with_more() -> Callable[..., Any]:
    def function(params, batch):
        loss, grads = clean(params, batch)
        return loss, grads | {"c": np.ones(2)}

    return function


class OfTheUser(Exception):
    """Raised by the user's function."""


def raises() -> Callable[..., Any]:
    def function(params, batch):
        raise OfTheUser("from the function")

    return function


NO_ANSWER = {
    "nothing": answers(None),
    "a number": answers(1.0),
    "three things": answers((1.0, make_params(), 3)),
    "a string for a loss": with_loss(lambda loss: "low"),
    "a complex loss": with_loss(complex),
    "two losses": with_loss(lambda loss: np.array([loss, loss])),
    "a loss of None": with_loss(lambda loss: None),
}
BAD_GRADIENTS = {
    "no gradients": answers((1.0, None)),
    "gradients in a list": answers((1.0, [np.ones(2), np.ones((3, 2))])),
    "a leaf is missing": without("b"),
    "a leaf too many": with_more,
    "lists": changed(lambda g: g.tolist()),
    "whole numbers": changed(lambda g: g.astype(np.int64)),
    "complex": changed(lambda g: g.astype(np.complex128)),
    "objects": changed(lambda g: g.astype(object)),
    "half the precision": changed(lambda g: g.astype(np.float32)),
    "other byte order": changed(lambda g: g.astype(np.dtype(float).newbyteorder())),
    "too short": changed(lambda g: g[:1]),
    "one axis more": changed(lambda g: g[None]),
    "masked": changed(lambda g: np.ma.masked_array(g, g > 0)),
    "NaN": changed(lambda g: g * np.nan),
    "infinite": changed(lambda g: g * np.inf),
    "strings": changed(lambda g: g.astype(str)),
    "raises": raises,
}
BAD = NO_ANSWER | BAD_GRADIENTS

# Entry points. Each trains `params` in place on X, Y by the function and returns what it found.


def loop(wrap: Callable[[Any], Any]) -> Callable[..., Any]:
    def run(function, params):
        optimizer = wrap(params)
        for start in (0, 20, 40, 0, 20, 40):
            batch = X[start : start + 20], Y[start : start + 20]
            if optimizer_needs_closure(optimizer):
                optimizer.step(lambda p, batch=batch: function(p, batch))
            else:
                loss, grads = function(params, batch)
                optimizer.step(grads, loss=loss)
        return params

    return run


def optimizer_needs_closure(optimizer: Any) -> bool:
    return bool(getattr(optimizer, "needs_closure", False))


def fitted(wrap: Callable[[Any], Any], **options: Any) -> Callable[..., Any]:
    def run(function, params):
        common = {"epochs": 2, "batch_size": 20, "progress": False}
        history = ss.fit(function, params, wrap(params), (X, Y), **common | options)
        return params, {name: np.asarray(history[name]) for name in ("loss", "lr")}

    return run


def found(**options: Any) -> Callable[..., Any]:
    def run(function, params):
        result = ss.lr_find(function, params, [(X, Y)], steps=20, progress=False, **options)
        return params, result.suggestion, result.losses

    return run


def minimized(**options: Any) -> Callable[..., Any]:
    def run(function, params):
        result = ss.minimize(lambda p: function(p, (X, Y)), params, **{"max_iter": 15} | options)
        return result.x, result.fun

    return run


def automatic(function: Any, params: Any) -> Any:
    result = ss.autolr(function, params, (X, Y), steps=40, batch_size=20, progress=False)
    return params, result.schedule.values(40), result.history["loss"]


def adam(params: Any) -> Any:
    return ss.Adam(params, lr=0.05)


def checked(function: Any, params: Any) -> Any:
    """Which leaves fit, and how well."""
    check = ss.check_gradients(function, params, (X, Y), directions=2)
    return params, {path: (leaf.verdict, leaf.ratio) for path, leaf in check.leaves.items()}


def branched(wrap: Callable[[Any], Any], **options: Any) -> Callable[..., Any]:
    def run(function, params):
        batches = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 60, 10)]
        common = {"steps": 10, "held": 2, "factors": (0.3, 1), "progress": False}
        result = ss.what_if(function, params, wrap(params), batches, **common | options)
        return params, str(result), [result.gain(factor) for factor in (0.3, 1)]

    return run


def resumed(function: Any, params: Any) -> Any:
    """A run of two epochs in two parts, through a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/run"
        common = {"batch_size": 20, "progress": False, "checkpoint": path, "resume": True}
        ss.fit(function, params, adam(params), (X, Y), epochs=1, **common)
        history = ss.fit(function, params, adam(params), (X, Y), epochs=2, **common)
    return params, np.asarray(history["loss"])


def searched(function: Any, params: Any) -> Any:
    """A search of which each run trains a copy."""

    def objective(point):
        copied = {name: leaf.copy() for name, leaf in params.items()}
        options = {"epochs": 1, "batch_size": 20, "progress": False}
        history = ss.fit(function, copied, ss.SGD(copied, lr=point["lr"]), (X, Y), **options)
        return history.last("loss")

    space = {"lr": ss.LogUniform(1e-3, 0.1)}
    result = ss.tune(objective, space, trials=3, method="random", on_error="raise")
    return params, [trial.value for trial in result.trials]


ENTRIES = {
    "step": loop(adam),
    "step, momentum": loop(lambda p: ss.SGD(p, lr=0.05, momentum=0.9)),
    "Accumulate": loop(lambda p: ss.Accumulate(adam(p), every=3)),
    "Lookahead": loop(lambda p: ss.Lookahead(adam(p), k=2)),
    "SAM": loop(lambda p: ss.SAM(adam(p))),
    "LBFGS": loop(lambda p: ss.LBFGS(p)),
    "fit": fitted(adam),
    "fit, accumulate": fitted(adam, accumulate=2),
    "fit, accumulate unevenly": fitted(adam, accumulate=2, batch_size=25),
    "fit, validation": fitted(adam, validation=(X[:10], Y[:10])),
    "fit, one thread of batches": fitted(adam, batch_size=60),
    "fit, momentum": fitted(lambda p: ss.SGD(p, lr=0.05, momentum=0.9)),
    "fit, EMA": fitted(lambda p: ss.EMA(adam(p), 0.5), validation=(X[:10], Y[:10])),
    "fit, schedule-free": fitted(lambda p: ss.ScheduleFreeAdamW(p), validation=(X, Y)),
    "fit, Lookahead": fitted(lambda p: ss.Lookahead(adam(p), k=2)),
    "fit, Accumulate": fitted(lambda p: ss.Accumulate(adam(p), every=2)),
    "fit, SAM": fitted(lambda p: ss.SAM(adam(p))),
    "fit, LBFGS": fitted(lambda p: ss.LBFGS(p)),
    "fit, resume": resumed,
    "check_gradients": checked,
    "what_if": branched(adam),
    "what_if, momentum": branched(lambda p: ss.SGD(p, lr=0.05, momentum=0.9), average=False),
    "what_if, EMA": branched(lambda p: ss.EMA(adam(p), 0.5), memorise=False),
    "tune": searched,
    "lr_find": found(),
    "lr_find, AdamW": found(optimizer=ss.AdamW),
    "lr_find, momentum": found(optimizer=lambda p: ss.SGD(p, momentum=0.9)),
    "lr_find, repeats": found(repeats=2),
    "autolr": automatic,
    "minimize": minimized(),
    "minimize, L-BFGS": minimized(rule="lbfgs"),
    "minimize, SGD with a found rate": minimized(rule="sgd"),
    "minimize, Adam with a found rate": minimized(rule="adam"),
    "minimize, Adam": minimized(rule="adam", lr=0.05),
}
# A loop that the user writes takes the answer apart by itself.
BY_HAND = ("step", "step, momentum", "Accumulate", "Lookahead")
SEARCHES = [
    name
    for name in ENTRIES
    if name.startswith(("lr_find", "autolr", "minimize", "check_gradients", "what_if", "tune"))
]


def outcome(entry: str, function: Callable[..., Any], params: Any) -> Any:
    return comparable(ENTRIES[entry](function, params))


# Optimizers of every kind, by name.

WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, 0.9),
    "SWA": lambda opt: ss.SWA(opt, start=1),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=2),
    "OuterMomentum": lambda opt: ss.OuterMomentum(opt, 2),
    "Accumulate": lambda opt: ss.Accumulate(opt, every=1),
    "Centralize": ss.Centralize,
    "GradientNoise": lambda opt: ss.GradientNoise(opt, seed=3),
    "AdaptiveClip": ss.AdaptiveClip,
    "Mechanic": ss.Mechanic,
    "EMA of Lookahead": lambda opt: ss.EMA(ss.Lookahead(opt, k=2), 0.5),
}
MAKERS: dict[str, Callable[[Any], Any]] = {cls.__name__: cls for cls in RULES}
MAKERS |= {
    f"{name} around Adam": (lambda params, wrap=wrap: wrap(ss.Adam(params, lr=0.1)))
    for name, wrap in WRAPPERS.items()
}
