"""Two more models in plain NumPy, and data sets, for the guide's experiments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.problems import Problem, cross_entropy

__all__ = ["characters", "conv_digits", "data_set", "words"]


def patches(x: Any) -> Any:
    """The 36 patches of 3 x 3 pixels in each image of 8 x 8: (images, 36, 9)."""
    windows = np.lib.stride_tricks.sliding_window_view(x.reshape(-1, 8, 8), (3, 3), axis=(1, 2))
    return windows.reshape(len(x), 36, 9)


def conv_forward(params: Any, x: Any) -> tuple[Any, Any, Any, Any]:
    """3 x 3 filters, ReLU, means over 2 x 2, one dense layer."""
    with np.errstate(over="ignore", invalid="ignore"):
        seen = patches(x)
        maps = np.maximum(seen @ params["filters"] + params["bias"], 0)
        pooled = maps.reshape(len(x), 3, 2, 3, 2, -1).mean(axis=(2, 4)).reshape(len(x), -1)
        return seen, maps, pooled, pooled @ params["w"] + params["b"]


def conv_loss(params: Any, batch: Any) -> tuple[float, Any]:
    """Loss and gradients of the convolutional network."""
    x, labels = batch
    seen, maps, pooled, scores = conv_forward(params, x)
    loss, delta = cross_entropy(scores, labels)
    with np.errstate(over="ignore", invalid="ignore"):
        back = (delta @ params["w"].T).reshape(len(x), 3, 1, 3, 1, -1) / 4
        back = np.broadcast_to(back, (len(x), 3, 2, 3, 2, maps.shape[-1]))
        back = back.reshape(maps.shape) * (maps > 0)
        filters = seen.reshape(-1, 9).T @ back.reshape(-1, maps.shape[-1])
        grads = {
            "filters": filters.astype(np.float32),
            "bias": back.sum(axis=(0, 1), dtype=np.float32),
            "w": pooled.T @ delta,
            "b": delta.sum(axis=0),
        }
    return loss, grads


def conv_scores(params: Any, batch: Any) -> dict[str, float]:
    """Loss and accuracy of the convolutional network."""
    x, labels = batch
    scores = conv_forward(params, x)[-1]
    accuracy = float(np.mean(scores.argmax(axis=1) == labels))
    return {"loss": cross_entropy(scores, labels)[0], "accuracy": accuracy}


def conv_digits(seed: int) -> Problem:
    """The digits with a small convolutional network: 12 filters, then one dense layer."""
    rng = np.random.default_rng(seed)
    params = {
        "filters": (rng.standard_normal((9, 12)) * np.sqrt(2 / 9)).astype(np.float32),
        "bias": np.zeros(12, np.float32),
        "w": (rng.standard_normal((108, 10)) * np.sqrt(2 / 108)).astype(np.float32),
        "b": np.zeros(10, np.float32),
    }
    return replace(
        ss.problems.digits(seed), params=params, value_and_grad=conv_loss, evaluate=conv_scores
    )


def words(seed: int) -> Problem:
    """Two kinds of documents as bags of words: common words say nothing, rare ones everything.

    2,000 documents of 30 words from 1,000; how often a word occurs falls as one over its rank.
    """
    rng = np.random.default_rng(seed)
    rank = np.arange(1, 1001)
    chance = 1 / rank / np.sum(1 / rank)
    labels = rng.integers(0, 2, 2000)
    x = np.zeros((2000, 1000), np.float32)
    for row, label in enumerate(labels):
        drawn = rng.choice(1000, 30, p=chance)
        # Words of rank above 200 keep to their kind: even ones in one, odd ones in the other.
        rare = drawn >= 200
        drawn[rare] = drawn[rare] // 2 * 2 + label
        x[row, np.minimum(drawn, 999)] = 1
    return ss.problems.classifier(x, labels, hidden=(), seed=seed, name="words")


def characters(seed: int, size: int = 5000) -> Problem:
    """Guess a letter from the four before it, in the help texts that Python ships."""
    from pydoc_data.topics import topics

    text = " ".join("".join(topics[key] for key in sorted(topics)).lower().split())
    alphabet = "abcdefghijklmnopqrstuvwxyz ."
    codes = np.array([alphabet.index(c) for c in text if c in alphabet][: 40 * size])
    starts = np.random.default_rng(seed).choice(len(codes) - 4, size, replace=False)
    before = codes[starts[:, None] + np.arange(4)]
    x = np.eye(len(alphabet), dtype=np.float32)[before].reshape(size, -1)
    y = codes[starts + 4]
    # Every letter is a class, whether or not this sample holds it.
    y[:1] = len(alphabet) - 1
    return ss.problems.classifier(x, y, hidden=(48,), seed=seed, name="characters")


def data_set(name: str, seed: int, hidden: tuple[int, ...] = (32,)) -> Problem:
    """One of scikit-learn's bundled classification sets, columns scaled to mean 0, deviation 1."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return ss.problems.classifier(x, y, hidden=hidden, seed=seed, name=name)
