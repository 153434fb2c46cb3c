"""How long a step takes on this machine, beside NumPy by hand and, where installed, torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.benchmarking import Entry, Yardstick, bytes_per_element, in_turns, medians, ratio

__all__ = ["SHAPES", "measure"]

# One tensor of each size, then many small ones: as many numbers, other costs.
SHAPES: dict[str, tuple[int, int]] = {
    "1 x 1,000": (1, 1_000),
    "1 x 1,000,000": (1, 1_000_000),
    "1 x 10,000,000": (1, 10_000_000),
    "100 x 1,000": (100, 1_000),
    "1,000 x 100": (1_000, 100),
}
_LARGE = 1_000_000  # elements from which memory is what a step waits for


def measure(
    rules: dict[str, Any], shapes: list[str], seconds: float, show: bool | None = None
) -> list[dict[str, Any]]:
    """The median time of a step in microseconds for each rule and shape, and of its rivals.

    With it go the GB/s that the step moves and, for large arrays, the share of those of a triad
    that ran in turns with it.
    """
    from tqdm import tqdm

    rows: list[dict[str, Any]] = [
        {"tensors": shape, "rule": name} for shape in shapes for name in rules
    ]
    hidden = None if show is None else not show  # None: a bar in terminals alone
    with tqdm(desc="measuring", total=2 * len(rows), disable=hidden, leave=False) as bar:
        # All of ours first: another OpenMP's threads that spin would take our processors.
        for measure_one in (_measure_ours, _measure_rivals):
            for row in rows:
                measure_one(row, rules[row["rule"]], seconds)
                bar.update()
    return rows


def _measure_ours(row: dict[str, Any], rule: Any, seconds: float) -> None:
    count, size = SHAPES[row["tensors"]]
    steps = {"stepsize": _ours(rule, count, size)}
    if size >= _LARGE:
        steps["triad"] = Yardstick(size).run
    times = in_turns(steps, seconds)
    row |= {key: 1e6 * value for key, value in medians(times).items()}
    if not rule.accelerated:
        return
    moved = bytes_per_element(Entry(row["rule"], rule))
    row["gb_s"] = moved * count * size / row["stepsize"] / 1e3
    if "triad" in times:
        row["triad_gb_s"] = Yardstick.bytes * size / row["triad"] / 1e3
        row["share_of_triad"] = moved / Yardstick.bytes * ratio(times, "triad", "stepsize")


def _measure_rivals(row: dict[str, Any], rule: Any, seconds: float) -> None:
    shape, name = SHAPES[row["tensors"]], row["rule"]
    rivals = {"numpy": _numpy_adam(*shape) if name == "Adam" else None}
    rivals["torch"] = _torch(name, *shape)
    for rival, step in rivals.items():
        if step is not None:
            row[rival] = 1e6 * medians(in_turns({rival: step}, seconds))[rival]


def _arrays(count: int, size: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size, np.float32) for _ in range(count)]


def _ours(rule: Any, count: int, size: int) -> Callable[[], Any]:
    params, grads = _arrays(count, size, 0), _arrays(count, size, 1)
    optimizer = rule(params, lr=1e-4, on_nonfinite="ignore")
    more = {"loss": 1.0} if rule.needs_loss else {}
    return lambda: optimizer.step(grads, **more)


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
