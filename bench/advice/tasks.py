"""The tasks: data that scikit-learn and Python ship, inverse problems, quadratics.

Half of the tasks are for tuning the rules, the other half is only reported; later.py and
wider.py add others, at which decisions have looked, and fresh.py those at which none did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import fresh
import later
import models
import numpy as np
import wider
from models import Batch, Params

HALVES = ("tuned on", "report only", "seen late", "unseen")


@dataclass(frozen=True)
class Task:
    """A problem and its training length; `half` says what it is for: see HALVES."""

    name: str
    init: Callable[[np.random.Generator], Params]
    value_and_grad: Callable[[Params, Batch], tuple[float, Params]]
    data: Batch
    batch_size: int
    steps: int
    half: str

    def params(self, seed: int) -> Params:
        return self.init(np.random.default_rng(1000 + seed))

    def batches(self, seed: int) -> Iterator[Batch]:
        """Shuffled mini-batches without end; a batch as large as the data is the data."""
        rng = np.random.default_rng(2000 + seed)
        size = len(self.data[0])
        while True:
            order = rng.permutation(size)
            for start in range(0, size - self.batch_size + 1, self.batch_size):
                rows = order[start : start + self.batch_size]
                yield tuple(a[rows] for a in self.data)

    def loss(self, params: Params) -> float:
        """The loss over all the data: what training is for."""
        with np.errstate(all="ignore"):
            return self.value_and_grad(params, self.data)[0]


def _bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float32), bunch.target


def _standard(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)).astype(np.float32)


@cache
def _text() -> np.ndarray:
    from pydoc_data import topics

    joined = "".join(topics.topics[k] for k in sorted(topics.topics))[:60_000].lower()
    letters = sorted(set(joined), key=lambda c: -joined.count(c))[:39]
    index = {c: k for k, c in enumerate(letters)}
    return np.array([index.get(c, 39) for c in joined])


def _windows(context: int) -> tuple[np.ndarray, np.ndarray]:
    text = _text()[:20_000]
    x = np.lib.stride_tricks.sliding_window_view(text, context + 1)[::5]
    return np.ascontiguousarray(x[:, :-1]), np.ascontiguousarray(x[:, -1])


def _scaled(value_and_grad, factor: float, shift: float = 0.0):  # type: ignore[no-untyped-def]
    def changed(params: Params, batch: Batch) -> tuple[float, Params]:
        loss, grads = value_and_grad(params, batch)
        return loss * factor + shift, {k: g * np.float32(factor) for k, g in grads.items()}

    return changed


def _classification() -> list[tuple]:
    x, y = _bundled("digits")
    small = x / np.float32(16)
    cancer, sick = _bundled("breast_cancer")
    wine, cellar = _bundled("wine")
    iris, species = _bundled("iris")
    rng = np.random.default_rng(7)
    noisy = np.where(rng.random(len(y)) < 0.6, rng.integers(0, 10, len(y)), y)
    net, deep = models.mlp([64, 32, 10], models.softmax_head), [64, 32, 32, 32, 32, 10]
    relu = models.mlp([64, 48, 24, 10], models.softmax_head, "relu")
    summed = models.mlp([64, 32, 10], models.softmax_head, "relu")
    sick32 = sick.astype(np.float32)
    linear = models.mlp([64, 10], models.softmax_head)
    one = models.mlp([30, 1], models.logistic_head)
    return [
        ("digits-linear", *linear, (small, y), 32, 300),
        ("digits-raw-linear", *linear, (x, y), 64, 300),
        ("digits-tanh", *net, (small, y), 32, 400),
        ("digits-relu", *relu, (small, y), 16, 500),
        ("digits-summed", summed[0], _scaled(summed[1], 128.0), (small, y), 128, 250),
        ("digits-conv", *models.conv(8, 10), (small, y), 32, 300),
        ("digits-deep", *models.mlp(deep, models.softmax_head, "relu"), (small, y), 32, 400),
        ("digits-constant", net[0], _scaled(net[1], 1.0, 1000.0), (small, y), 64, 300),
        ("digits-noisy-labels", *net, (small, noisy), 8, 400),
        ("digits-hinge", *models.mlp([64, 1], models.hinge_head, l2=1e-3),
         (small, (y % 2).astype(np.float32)), 16, 400),
        ("cancer-raw", *one, (cancer, sick32), 569, 400),
        ("cancer-linear", *one, (_standard(cancer), sick32), 16, 300),
        ("cancer-mlp", *models.mlp([30, 16, 1], models.logistic_head),
         (_standard(cancer), sick32), 8, 300),
        ("wine-raw", *models.mlp([13, 3], models.softmax_head), (wine, cellar), 32, 400),
        ("wine-mlp", *models.mlp([13, 16, 3], models.softmax_head, "relu"),
         (_standard(wine), cellar), 16, 200),
        ("iris-mlp", *models.mlp([4, 16, 3], models.softmax_head), (iris, species), 8, 300),
        ("text-1", *models.embedding(40, 1, 16, 32), _windows(1), 64, 400),
        ("text-3", *models.embedding(40, 3, 12, 48), _windows(3), 32, 500),
    ]  # fmt: skip


def _regression() -> list[tuple]:
    rng = np.random.default_rng(11)
    x, target = _bundled("diabetes")
    y = target.astype(np.float32)
    unit = ((y - y.mean()) / y.std()).astype(np.float32)
    digits = _bundled("digits")[0] / np.float32(16)
    grid = np.linspace(0, 1, 48, dtype=np.float32)
    truth = np.sin(6 * grid) + (grid > 0.5)
    blur = np.exp(-(((grid[:, None] - grid[None, :]) / 0.06) ** 2)).astype(np.float32)
    heat = np.exp(-np.abs(grid[:, None] - grid[None, :]) / 0.3).astype(np.float32)
    rows, cols = rng.integers(0, 40, 3000), rng.integers(0, 30, 3000)
    u, v = rng.standard_normal((40, 3)), rng.standard_normal((30, 3))
    values = (np.sum(u[rows] * v[cols], axis=1) + 0.1 * rng.standard_normal(3000)).astype("f")
    counts = rng.poisson(np.exp(0.5 + 6 * x[:, 2] + 5 * x[:, 8])).astype(np.float32)
    shifts = rng.standard_normal((512, 40)).astype(np.float32)
    steep = np.logspace(0, 3, 40)
    line = models.mlp([10, 1], models.square_head)
    near = unit * np.float32(0.05) + np.float32(0.01) * x[:, 2] * 20
    return [
        ("diabetes-raw-target", *line, (_standard(x), y), 32, 400),
        ("diabetes-mlp", *models.mlp([10, 24, 1], models.square_head), (_standard(x), unit), 32,
         300),
        ("diabetes-unscaled", *line, (x, unit), 442, 400),
        ("autoencoder", *models.mlp([64, 16, 64], models.square_head), (digits, digits), 64, 300),
        ("deconvolution", *models.mlp([48, 1], models.square_head), (blur, blur @ truth), 48, 400),
        ("heat-source", *models.mlp([48, 1], models.square_head), (heat, heat @ truth), 16, 400),
        ("factorisation", *models.factorisation(40, 30, 3), (rows, cols, values), 64, 500),
        ("gaussian", *models.mlp([10, 16, 2], models.gaussian_head), (_standard(x), near), 32,
         400),
        ("poisson", *models.mlp([10, 1], models.poisson_head), (_standard(x), counts), 32, 300),
        ("quadratic-noisy", *models.quadratic(steep), (shifts / np.sqrt(steep).astype("f"),), 8,
         400),
        ("quadratic-exact", *models.quadratic(np.logspace(-2, 2, 30)),
         (np.zeros((1, 30), np.float32),), 1, 300),
        ("tiny-scale", *models.mlp([10, 1], models.square_head),
         (_standard(x) * np.float32(1e-2), unit * np.float32(1e-3)), 64, 300),
        ("rosenbrock", *models.rosenbrock(10), (np.zeros((1, 1)),), 1, 400),
    ]  # fmt: skip


RULES = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "lion")


@cache
def tasks() -> tuple[Task, ...]:
    """Every task; pairs of neighbours of the first alternate between tuning and report."""
    rows = _classification() + _regression()
    known = [Task(*row, half=HALVES[k % 4 // 2]) for k, row in enumerate(rows)]
    wine, digits, diabetes = _bundled("wine")[0], _bundled("digits"), _bundled("diabetes")
    others = later.rows(_scaled, _text(), wine) + wider.rows(_windows(6), digits, diabetes)
    unseen = fresh.rows(_windows(8), digits, diabetes, wine)
    return (
        *known,
        *(Task(*row, half="seen late") for row in others),
        *(Task(*row, half="unseen") for row in unseen),
    )
