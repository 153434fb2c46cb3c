"""Runs of 100 steps that two libraries can make alike: the start, the gradients, the options.

Everything is made of exact integers and of operations that IEEE 754 rounds one way, so that both
sides see the same gradients for the same parameters wherever they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

import stepsize as ss

STEPS = 100
MARKS = (1, 10, 100)  # steps after which the parameters are compared
SIZE = 40
DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}  # of the largest parameter

OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {
        "lr": (0.01,),
        "momentum": (0.0, 0.9),
        "dampening": (0.0, 0.1),
        "weight_decay": (0.0, 0.1),
        "nesterov": (False, True),
        "maximize": (False, True),
    },
    "Adagrad": {
        "lr": (0.05,),
        "lr_decay": (0.0, 0.01),
        "weight_decay": (0.0, 0.1),
        "initial_accumulator_value": (0.0, 0.5),
        "maximize": (False, True),
    },
    "RMSprop": {
        "lr": (0.01,),
        "alpha": (0.9,),
        "momentum": (0.0, 0.9),
        "weight_decay": (0.0, 0.1),
        "centered": (False, True),
        "maximize": (False, True),
    },
    "Adam": {
        "lr": (0.02,),
        "betas": ((0.9, 0.999), (0.4, 0.9)),
        "weight_decay": (0.0, 0.1),
        "amsgrad": (False, True),
        "maximize": (False, True),
    },
    "AdamW": {
        "lr": (0.02,),
        "betas": ((0.9, 0.999), (0.4, 0.9)),
        "weight_decay": (0.0, 0.1),
        "amsgrad": (False, True),
        "maximize": (False, True),
    },
}


def combinations(rule: str) -> Iterator[dict[str, Any]]:
    """Every combination of the options of a rule that the rule accepts."""
    options = OPTIONS[rule]
    for values in product(*options.values()):
        keywords = dict(zip(options, values, strict=True))
        if keywords.get("nesterov") and (not keywords["momentum"] or keywords["dampening"]):
            continue
        yield keywords


def scatter(seed: int, dtype: Any) -> np.ndarray:
    """Numbers in [-1, 1) that look random, from whole-number arithmetic."""
    words = np.arange(1, SIZE + 1, dtype=np.uint64) + np.uint64(1000 * seed)
    for _ in range(3):
        words = (words * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) >> 11
    return (words.astype(np.float64) / 2.0**52 - 1).astype(dtype)


def given(step: int, x: np.ndarray) -> np.ndarray:
    """A gradient that does not look at the parameters, of very different sizes."""
    size = np.exp2(np.arange(SIZE) % 9 - 4).astype(x.dtype)
    return scatter(step + 1, x.dtype) * size


def felt(step: int, x: np.ndarray) -> np.ndarray:
    """The gradient of a coupled, curved landscape at the parameters, with a little noise."""
    curvature = (1 + np.arange(SIZE) % 7).astype(x.dtype)
    bend = x / (1 + np.abs(x))
    pull = curvature * x - x.dtype.type(0.5) * (np.roll(x, 1) + np.roll(x, -1)) + bend
    return pull + x.dtype.type(0.25) * scatter(step + 1, x.dtype)


GRADIENTS: dict[str, Callable[[int, np.ndarray], np.ndarray]] = {"given": given, "felt": felt}


def run(
    step: Callable[[np.ndarray], None], x: np.ndarray, kind: str, keywords: dict[str, Any]
) -> np.ndarray:
    """The parameters after each mark, where ``step`` updates ``x`` by a gradient."""
    # Climbing the landscape would magnify each rounding; climbing its mirror image does not.
    sign = -1 if keywords["maximize"] else 1
    found = []
    for k in range(STEPS):
        step(sign * GRADIENTS[kind](k, x))
        if k + 1 in MARKS:
            found.append(x.copy())
    return np.array(found)


def ours(rule: str, keywords: dict[str, Any], kind: str, dtype: Any) -> np.ndarray:
    x = scatter(0, dtype)
    return run(getattr(ss, rule)(x, **keywords).step, x, kind, keywords)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest parameter at that time."""
    height = np.max(np.abs(expected), axis=-1, keepdims=True)
    return float(np.max(np.abs(found.astype(float) - expected.astype(float)) / height))
