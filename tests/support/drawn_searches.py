"""Searches for rates and hyperparameters on small problems, with all that they find, in lines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import stepsize as ss

CURVATURES = np.geomspace(0.05, 10, 12)
METHODS = ("grid", "random", "lr", "tpe")


def valley(params: Any, batch: Any) -> tuple[float, Any]:
    x = params["x"]
    return 0.5 * float(CURVATURES @ (x * x)), {"x": CURVATURES * x}


def noisy(params: Any, batch: Any) -> tuple[float, Any]:
    """Least squares, whose rows differ."""
    a, b = batch
    rest = a @ params["x"] - b
    return 0.5 * float(np.mean(rest**2)), {"x": a.T @ rest / len(rest)}


def wrong_sign(params: Any, batch: Any) -> tuple[float, Any]:
    loss, grads = valley(params, batch)
    return loss, {"x": -grads["x"]}


def without_factor(params: Any, batch: Any) -> tuple[float, Any]:
    loss, grads = valley(params, batch)
    return 2 * loss, grads


def flat(params: Any, batch: Any) -> tuple[float, Any]:
    return 1.0, {"x": np.zeros_like(params["x"])}


def start() -> dict[str, Any]:
    return {"x": 1 / np.sqrt(CURVATURES)}


def batches() -> list[tuple[Any, Any]]:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((12, 32, 12)) * np.sqrt(CURVATURES / CURVATURES.max())
    truth = random.standard_normal(12)
    return [(a, a @ truth + 0.1 * random.standard_normal(32)) for a in inputs]


FINDS: dict[str, Callable[[], Any]] = {
    "plain": lambda: ss.lr_find(valley, start(), [None]),
    "few steps": lambda: ss.lr_find(valley, start(), [None], steps=40),
    "noisy": lambda: ss.lr_find(noisy, start(), batches()),
    "repeats": lambda: ss.lr_find(noisy, start(), batches(), repeats=3, steps=150),
    "refined": lambda: ss.lr_find(noisy, start(), batches(), refine=150),
    "for steps": lambda: ss.lr_find(noisy, start(), batches(), for_steps=1000),
    "adam": lambda: ss.lr_find(noisy, start(), batches(), optimizer=ss.Adam, for_steps=1000),
    "momentum": lambda: ss.lr_find(
        valley, start(), [None], optimizer=partial(ss.SGD, momentum=0.9)
    ),
    "adagrad": lambda: ss.lr_find(noisy, start(), batches(), optimizer=ss.Adagrad, for_steps=1000),
    "narrow": lambda: ss.lr_find(valley, start(), [None], lr_min=1e-3, lr_max=0.05),
    "linear": lambda: ss.lr_find(valley, start(), [None], lr_max=0.5, spacing="linear"),
    "wrong sign": lambda: ss.lr_find(wrong_sign, start(), [None]),
    "without factor": lambda: ss.lr_find(without_factor, start(), [None]),
    "flat": lambda: ss.lr_find(flat, start(), [None]),
    "best momentum": lambda: ss.lr_find(valley, start(), [None], parameter="momentum", refine=200),
    "best decay": lambda: ss.lr_find(
        noisy, start(), batches(), optimizer=ss.AdamW, parameter="weight_decay", refine=200
    ),
}


def short(value: Any) -> Any:
    """Numbers in six digits, whatever they lie in."""
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    if isinstance(value, np.ndarray | list | tuple):
        return " ".join(str(short(item)) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={short(item)}" for key, item in value.items())
    return value


def found(name: str) -> Iterator[str]:
    result = FINDS[name]()
    yield f"find {name}"
    for key, value in vars(result).items():
        if key not in ("lrs", "losses", "smoothed", "probes"):
            yield f"    {key}: {short(value)}"
    for key in ("lrs", "losses", "smoothed"):
        if hasattr(result, key):
            yield f"    {key}: {len(getattr(result, key))}, {short(getattr(result, key)[::17])}"


def quality(point: dict[str, Any], trial: Any = None) -> float:
    """How low a run of this point ends, where rates want larger ones of larger batches."""
    best = 0.1 * math.sqrt(point["batch_size"] / 32)
    loss = abs(math.log10(point["lr"] / best)) + 0.1 * abs(math.log10(point["weight_decay"] / 1e-3))
    loss += {"a": 0.0, "b": 0.3, "c": 0.1}[point["kind"]] + 2 * abs(point["beta2"] - 0.97)
    loss += abs(point["depth"] - 3) / 10
    for step in (1, 3, 9, 27) if trial is not None else ():
        trial.report(step, loss + 1 / step)
    return loss


def negative(point: dict[str, Any], trial: Any) -> float:
    loss = quality(point)
    for step in (1, 3, 9, 27):
        trial.report(step, -loss - 1 / step)
    return -loss


def space() -> dict[str, Any]:
    return {
        "lr": ss.LogUniform(1e-4, 1.0),
        "batch_size": ss.Choice(16, 32, 64),
        "weight_decay": ss.LogUniform(1e-5, 1e-1),
        "beta2": ss.Choice(0.9, 0.97, 0.999),
        "kind": ss.Choice("a", "b", "c"),
        "depth": ss.Uniform(1, 9, whole=True, step=2),
    }


def tuned(name: str, **given: Any) -> Iterator[str]:
    result = ss.tune(**given)
    yield f"tune {name}: {short(result.best_value)} {short(result.best)}"
    for trial in result.trials:
        ended = f"{trial.number} {trial.state} {short(trial.value)} {trial.reason}"
        yield f"    {ended}: {short(trial.point)}"


def snapshot() -> str:
    """Of all of them, as `tests/golden/searches.txt` keeps it."""
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in FINDS:
            lines += found(name)
        few = {name: space()[name] for name in ("lr", "weight_decay", "batch_size")}
        for method in METHODS:
            two = few if method == "grid" else space()
            one = (lambda point: quality({**DEFAULTS, **point})) if method == "grid" else quality
            trials = 15 if method != "tpe" else 24
            lines += tuned(method, objective=one, space=two, trials=trials, method=method, seed=1)
        for method in ("random", "tpe", "halving"):
            lines += tuned(
                f"highest, {method}", objective=negative, space=space(), trials=24, seed=2,
                direction="maximize", method=method,
            )  # fmt: skip
    return "\n".join(lines) + "\n"


DEFAULTS = {"kind": "a", "beta2": 0.97, "depth": 3}
