"""What the tasks are made of: data that scikit-learn and Python ship, and their usual forms."""

from __future__ import annotations

from functools import cache

import numpy as np
from models import Batch, Params


def bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float32), bunch.target


def standard(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)).astype(np.float32)


@cache
def text() -> np.ndarray:
    from pydoc_data import topics

    joined = "".join(topics.topics[k] for k in sorted(topics.topics))[:60_000].lower()
    letters = sorted(set(joined), key=lambda c: (-joined.count(c), c))[:39]
    index = {c: k for k, c in enumerate(letters)}
    return np.array([index.get(c, 39) for c in joined])


def windows(context: int) -> tuple[np.ndarray, np.ndarray]:
    letters = text()[:20_000]
    x = np.lib.stride_tricks.sliding_window_view(letters, context + 1)[::5]
    return np.ascontiguousarray(x[:, :-1]), np.ascontiguousarray(x[:, -1])


def scaled(value_and_grad, factor: float, shift: float = 0.0):  # type: ignore[no-untyped-def]
    def changed(params: Params, batch: Batch) -> tuple[float, Params]:
        loss, grads = value_and_grad(params, batch)
        return loss * factor + shift, {k: g * np.float32(factor) for k, g in grads.items()}

    return changed
