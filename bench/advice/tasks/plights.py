"""Thirty small tasks to plant plights in; a third of them is held out.

Data are made here, models are those of `models.py`; nothing else of the benchmark uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import models
import numpy as np
from models import Batch

# Chosen before a plight was planted in any of them: nothing is decided on these.
HELD_OUT = (
    "two-arms", "tri-rings", "parity", "digits-far", "ordinal",
    "springs", "ramps", "visits", "wide-signal", "ridge-waves",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A model, its data, rule, length, rows of a batch, and whether its hidden units are ReLUs."""

    name: str
    model: tuple[Callable, Callable]
    data: Batch
    rule: str
    steps: int
    batch: int
    relu: bool = False

    @property
    def held_out(self) -> bool:
        """Whether nothing was decided on it."""
        return self.name in HELD_OUT

    @property
    def classes(self) -> bool:
        """Whether the targets are labels."""
        return self.data[1].dtype.kind == "i"


ROWS = 640  # a quarter of them validates
Net = tuple[str, list[int], models.Head, str]


def _f(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return _f((values - values.mean(axis=0)) / values.std(axis=0))


def _labels(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.int64)


def _of_classes(rng: np.random.Generator) -> Iterator[tuple[str, tuple, Batch]]:
    soft, pair = models.softmax_head, models.logistic_head
    flat = rng.normal(size=(ROWS, 2))
    kind = rng.integers(0, 4, ROWS)
    turn, arm = rng.random(ROWS) * 3, rng.integers(0, 2, ROWS)
    spiral = np.stack(
        [turn * np.cos(turn * 2 + np.pi * arm), turn * np.sin(turn * 2 + np.pi * arm)]
    )
    ten = rng.normal(size=(ROWS, 10))
    middle = rng.normal(size=(8, 16)) * 1.2
    which = rng.integers(0, 8, ROWS)
    noisy = ten @ rng.normal(size=10) + rng.logistic(size=ROWS) > 0
    many = rng.normal(size=(ROWS, 40))
    radius = np.hypot(*flat.T)
    lines = rng.normal(size=(5, 6))
    six = rng.normal(size=(ROWS, 6))
    far = rng.normal(size=(10, 24))
    digit = rng.integers(0, 10, ROWS)
    level = np.digitize(np.sin(2 * six[:, 0]) + six[:, 1], (-1, -0.2, 0.4, 1.2))
    near = flat + 2.2 * np.stack([kind % 2, kind // 2], 1)
    half = np.where(arm == 1, [[1.0], [0.3]] - _moon(turn), _moon(turn))
    yield "corners", models.mlp([2, 16, 4], soft), (_unit(near), _labels(kind))
    yield "two-arms", models.mlp([2, 32, 2], soft), (_f(spiral.T), _labels(arm))
    yield "half-moons", models.mlp([2, 16, 2], soft, "relu"), (_unit(half.T), _labels(arm))
    yield "noisy-sign", models.mlp([10, 1], pair), (_f(ten), _labels(noisy))
    yield "sparse-sign", models.mlp([40, 12, 1], pair, "relu"), (
        _f(many), _labels(many[:, 0] * many[:, 1] + many[:, 2] > 0))  # fmt: skip
    yield "tri-rings", models.mlp([2, 24, 24, 3], soft, "relu"), (
        _f(flat), _labels(np.digitize(radius, (0.7, 1.5))))  # fmt: skip
    yield "prototypes", models.mlp([16, 20, 8], soft, "relu"), (
        _f(middle[which] + rng.normal(size=(ROWS, 16))), _labels(which))  # fmt: skip
    yield "parity", models.mlp([10, 32, 1], models.hinge_head), (
        _f(ten), _labels(ten[:, 0] * ten[:, 1] > 0))  # fmt: skip
    yield "sectors", models.mlp([6, 24, 5], soft), (_f(six), _labels(np.argmax(six @ lines.T, 1)))
    yield "digits-far", models.mlp([24, 10], soft), (
        _f(far[digit] + 0.8 * rng.normal(size=(ROWS, 24))), _labels(digit))  # fmt: skip
    yield "ordinal", models.mlp([6, 20, 5], soft, "relu"), (_f(six), _labels(level))
    yield "deep-sign", models.mlp([10, 16, 16, 16, 1], pair, "relu"), (
        _f(ten), _labels(np.abs(ten[:, 0]) + ten[:, 1] > 0.6))  # fmt: skip


def _moon(turn: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(turn), np.sin(turn)])


def _of_numbers(rng: np.random.Generator) -> Iterator[tuple[str, tuple, Batch]]:
    square = models.square_head
    line = rng.random((ROWS, 1)) * 4 - 2
    cube = rng.random((ROWS, 5)) * 2 - 1
    eight = rng.normal(size=(ROWS, 8))
    wide = rng.normal(size=(ROWS, 50))
    some = rng.normal(size=(ROWS, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(ROWS, 12))
    noise = rng.normal(size=ROWS)
    who, what = rng.integers(0, 20, (2, ROWS))
    taste = np.sum(rng.normal(size=(20, 2))[who] * rng.normal(size=(20, 2))[what], axis=1)
    steep = eight * np.geomspace(0.1, 3, 8)
    spread = np.exp(0.7 * cube[:, 1]) * noise
    yield "chirp", models.mlp([1, 32, 1], square), (_f(line), _f(np.sin(line[:, 0] ** 2 * 2)))
    yield "springs", models.mlp([5, 24, 1], square), (
        _f(cube), _unit(cube[:, 0] * np.cos(3 * cube[:, 1]) + 0.1 * noise))  # fmt: skip
    yield "stiff-line", models.mlp([8, 1], square), (
        _f(steep), _f(steep @ rng.normal(size=8) + 0.3 * noise))  # fmt: skip
    yield "kinks", models.mlp([5, 24, 1], square, "relu"), (
        _f(cube), _unit(np.abs(cube[:, 0]) + np.maximum(cube[:, 1], cube[:, 2])))  # fmt: skip
    yield "ramps", models.mlp([5, 20, 20, 1], square, "relu"), (
        _f(cube), _unit(np.round(2 * cube[:, 0]) + cube[:, 3] + 0.2 * noise))  # fmt: skip
    yield "counts", models.mlp([5, 12, 1], models.poisson_head), (
        _f(cube), _f(rng.poisson(np.exp(1 + cube[:, 0] + np.sin(3 * cube[:, 1])))))  # fmt: skip
    yield "visits", models.mlp([8, 1], models.poisson_head), (
        _f(eight / 2), _f(rng.poisson(np.exp(0.5 + eight[:, 0] / 2))))  # fmt: skip
    yield "spread", models.mlp([5, 16, 2], models.gaussian_head), (
        _f(cube), _f(np.sin(2 * cube[:, 0]) + 0.3 * spread))  # fmt: skip
    yield "copies", models.mlp([12, 4, 12], square), (_unit(some), _unit(some))
    yield "copies-relu", models.mlp([12, 8, 12], square, "relu"), (_unit(some), _unit(some))
    yield "wide-signal", models.mlp([50, 1], square), (
        _f(wide), _unit(wide[:, :5].sum(axis=1) + noise))  # fmt: skip
    yield "tastes", models.factorisation(20, 20, 3), (who, what, _f(taste))
    yield "ridge-waves", models.mlp([8, 24, 1], square, l2=1e-3), (
        _f(eight), _unit(np.sin(eight[:, 0] + eight[:, 1]) + 0.2 * noise))  # fmt: skip
    yield "noisy-waves", models.mlp([1, 24, 1], square), (
        _f(line), _unit(np.sin(3 * line[:, 0]) + 0.7 * noise))  # fmt: skip
    yield "products", models.mlp([8, 32, 1], square, "relu"), (
        _f(eight), _unit(eight[:, 0] * eight[:, 1] + 0.5 * eight[:, 2]))  # fmt: skip
    yield "deep-waves", models.mlp([5, 16, 16, 16, 1], square), (
        _f(cube), _unit(np.sin(4 * cube[:, 0]) * cube[:, 1]))  # fmt: skip
    yield "two-outputs", models.mlp([5, 24, 2], square), (
        _f(cube), _unit(np.stack([np.sin(3 * cube[:, 0]), cube[:, 1] ** 2], 1)))  # fmt: skip
    yield "shifted", models.mlp([8, 16, 1], square, "relu"), (
        _f(eight), _f(3 + np.abs(eight[:, 0]) + 0.1 * noise))  # fmt: skip


RULES = ("sgd", "momentum", "adam", "rmsprop", "momentum", "adam")
STEPS = (240, 320)
BATCHES = (16, 32, 64)
RELUS = ("half-moons", "sparse-sign", "tri-rings", "prototypes", "ordinal", "deep-sign", "kinks",
         "ramps", "copies-relu", "products", "shifted")  # fmt: skip


def subjects() -> list[Subject]:
    """The tasks, those held out among them."""
    made = [*_of_classes(np.random.default_rng(801)), *_of_numbers(np.random.default_rng(802))]
    return [
        Subject(name, model, data, RULES[k % len(RULES)], STEPS[k // 3 % 2], BATCHES[k // 2 % 3],
                name in RELUS)
        for k, (name, model, data) in enumerate(made)
    ]  # fmt: skip
