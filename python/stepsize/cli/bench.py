"""How long a step takes on this machine, beside NumPy by hand and, where installed, torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import stepsize as ss

__all__ = ["SHAPES", "measure"]

# One tensor of each size, then many small ones: as many numbers, other costs.
SHAPES: dict[str, tuple[int, int]] = {
    "1 x 1,000": (1, 1_000),
    "1 x 1,000,000": (1, 1_000_000),
    "1 x 10,000,000": (1, 10_000_000),
    "100 x 1,000": (100, 1_000),
    "1,000 x 100": (1_000, 100),
}


def measure(rules: dict[str, Any], shapes: list[str], seconds: float) -> list[dict[str, Any]]:
    """The median time of a step in microseconds for each rule and shape, and of its rivals."""
    rows = []
    for shape in shapes:
        count, size = SHAPES[shape]
        for name, rule in rules.items():
            row: dict[str, Any] = {"tensors": shape, "rule": name}
            row["stepsize"] = _median(_ours(rule, count, size), seconds)
            if name == "Adam":
                row["numpy"] = _median(_numpy_adam(count, size), seconds)
            theirs = _torch(name, count, size)
            if theirs is not None:
                row["torch"] = _median(theirs, seconds)
            rows.append(row)
    return rows


def _arrays(count: int, size: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size, np.float32) for _ in range(count)]


def _median(step: Callable[[], Any], seconds: float) -> float:
    for _ in range(2):
        step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times))


def _ours(rule: Any, count: int, size: int) -> Callable[[], Any]:
    params, grads = _arrays(count, size, 0), _arrays(count, size, 1)
    optimizer = rule(params, lr=1e-4)
    return lambda: optimizer.step(grads)


def _numpy_adam(count: int, size: int) -> Callable[[], Any]:
    """Adam as one writes it by hand."""
    params, grads = _arrays(count, size, 0), _arrays(count, size, 1)
    first, second = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    steps = [0]

    def step() -> None:
        steps[0] += 1
        t = steps[0]
        for p, g, m, v in zip(params, grads, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= 1e-4 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return step


def _torch(name: str, count: int, size: int) -> Callable[[], Any] | None:
    try:
        import torch
    except ImportError:
        return None
    rule = getattr(torch.optim, name, None)
    if rule is None:
        return None
    torch.set_num_threads(int(ss.build_info()["threads"]))
    params = [torch.from_numpy(array).requires_grad_() for array in _arrays(count, size, 0)]
    for parameter, grad in zip(params, _arrays(count, size, 1), strict=True):
        parameter.grad = torch.from_numpy(grad)
    fused = {"fused": True} if name in ("SGD", "Adam", "AdamW", "Adagrad") else {}
    optimizer = rule(params, lr=1e-4, **fused)
    step: Callable[[], Any] = optimizer.step
    return step
