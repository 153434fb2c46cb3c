"""Tasks of the fifth split, each at any width: too narrow it underfits, and a wider one tells.

Made for the experiments of `what_if`, from the definitions of the verdicts alone: other data, other
losses and other faults than those of the splits that the thresholds were fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import models
import numpy as np
from models import Batch

from tasks.data import bundled
from tasks.held_out import pinball_head, student_head


@dataclass(frozen=True)
class Subject:
    """A model that can be made at any width, its data, rule and length.

    `width` is the usual one, `narrow` one too small for the data, `scarce` so few rows that the
    usual one learns them by heart.
    """

    name: str
    make: Callable[[int], tuple]
    data: Batch
    rule: str
    steps: int
    width: int
    narrow: int
    scarce: int


def features_of(inputs: int, outputs: int, head: models.Head) -> Callable[[int], tuple]:
    """A linear model on fixed random cosines of the inputs; the width is their number."""

    def make(width: int) -> tuple:
        rng = np.random.default_rng(77)
        ways = rng.standard_normal((inputs, width)).astype(np.float32)
        shift = (rng.random(width) * 2 * np.pi).astype(np.float32)
        init, inner = models.mlp([width, outputs], head)
        scale = np.float32(np.sqrt(2 / width))

        def value_and_grad(params: models.Params, batch: Batch) -> tuple[float, models.Params]:
            seen = np.cos(batch[0] @ ways + shift) * scale
            return inner(params, (seen, batch[1]))

        return init, value_and_grad

    return make


def sensing(size: int) -> Callable[[int], tuple]:
    """A low-rank matrix from products with vectors: `batch = (left, right, value)`."""

    def make(rank: int) -> tuple:
        def init(rng: np.random.Generator) -> models.Params:
            return {
                "u": (rng.standard_normal((size, rank)) * 0.2).astype(np.float32),
                "v": (rng.standard_normal((size, rank)) * 0.2).astype(np.float32),
            }

        def value_and_grad(params: models.Params, batch: Batch) -> tuple[float, models.Params]:
            left, right, value = batch
            a, b = left @ params["u"], right @ params["v"]
            off = np.sum(a * b, axis=1) - value
            each = (off / np.float32(len(off)))[:, None]
            loss = 0.5 * float(np.mean(np.square(off, dtype=np.float64)))
            return loss, {"u": left.T @ (each * b), "v": right.T @ (each * a)}

        return init, value_and_grad

    return make


def _net(inputs: int, outputs: int, head: models.Head, kind: str = "tanh") -> Callable:
    return lambda width: models.mlp([inputs, width, outputs], head, kind)


def _deep(inputs: int, outputs: int, head: models.Head) -> Callable:
    return lambda width: models.mlp([inputs, width, width, width, outputs], head, "relu")


def _f(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return _f((values - values.mean(axis=0)) / values.std(axis=0))


def _classes(rng: np.random.Generator) -> list[Subject]:
    rows = 800
    turn, arm = rng.random(rows) * 4, rng.integers(0, 3, rows)
    way = turn + arm * 2.1
    spiral = np.stack([turn * np.cos(way), turn * np.sin(way)], 1) + 0.15 * rng.normal(
        size=(rows, 2)
    )
    rings = rng.normal(size=(rows, 2)) * 1.5
    inside = np.hypot(*rings.T) % 1.4 < 0.7
    wrong = np.where(rng.random(rows) < 0.1, ~inside, inside)
    signs = rng.normal(size=(rows, 10))
    xor = signs[:, 0] * signs[:, 1] * signs[:, 2] > 0
    board = rng.random((rows, 2)) * 4
    squares = np.floor(board).sum(axis=1) % 2
    wide = rng.normal(size=(rows, 60))
    weak = wide @ rng.normal(size=60) / 8 + rng.logistic(size=rows) * 0.7 > 0
    pixels, digit = bundled("digits")
    few = digit < 5
    first, second = rng.integers(0, 11, (2, rows))
    pairs, total = np.stack([first, second], 1), (first + second) % 11
    rays = rng.normal(size=(rows, 8))
    sector = np.argmax(rays @ rng.normal(size=(8, 6)) + 0.5 * np.abs(rays[:, :6]), axis=1)
    return [
        Subject("spirals", _net(2, 3, models.softmax_head), (_f(spiral), arm),
                "adam", 300, 24, 2, 50),
        Subject("rings", _net(2, 1, models.logistic_head, "relu"), (_f(rings), _f(wrong)),
                "momentum", 300, 24, 2, 60),
        Subject("xor", _net(10, 1, models.hinge_head), (_f(signs), _f(xor)),
                "sgd", 300, 48, 2, 60),
        Subject("checkerboard", _deep(2, 1, models.logistic_head), (_f(board), _f(squares)),
                "adam", 400, 20, 2, 50),
        Subject("weak-signs", features_of(60, 1, models.logistic_head),
                (_f(wide * 0.1), _f(weak)), "sgd", 300, 96, 3, 70),
        Subject("five-digits", lambda w: models.mlp([64, w, 5], models.softmax_head, "relu"),
                (_f(pixels[few] / 8 - 1)[:700], digit[few][:700]), "rmsprop", 250, 16, 1, 60),
        Subject("images", lambda w: models.conv(w, 10), (_f(pixels / 16)[:500], digit[:500]),
                "momentum", 200, 6, 1, 50),
        Subject("addition", lambda w: models.embedding(11, 2, 8, w), (pairs, total),
                "adam", 400, 40, 2, 60),
        Subject("sectors", _net(8, 6, models.softmax_head, "relu"), (_f(rays), sector),
                "lion", 250, 24, 1, 60),
    ]  # fmt: skip


def _numbers(rng: np.random.Generator) -> list[Subject]:
    rows = 800
    line = rng.random((rows, 1)) * 6 - 3
    waves = np.sin(3 * line[:, 0]) + 0.3 * line[:, 0] + 0.1 * rng.normal(size=rows)
    angles = rng.random((rows, 3)) * 3
    bends = np.cumsum(angles, axis=1)
    hand = np.stack([np.cos(bends).sum(1), np.sin(bends).sum(1)], axis=1)
    cube = rng.random((rows, 5))
    flow = np.arctan((cube[:, 1] * cube[:, 2] - 1 / (1 + cube[:, 1])) / (cube[:, 0] + 0.1))
    counts = rng.poisson(np.exp(1 + np.sin(4 * cube[:, 0]) + cube[:, 3]))
    loud = flow + 0.4 * cube[:, 3] * rng.normal(size=rows)
    tails = np.sin(5 * cube[:, 0]) + 0.15 * rng.standard_t(2, rows)
    mixed = rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 20)) + 0.3 * rng.normal(
        size=(rows, 20)
    )
    left, right = _f(rng.normal(size=(2, rows, 12)))
    low = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 12)) / 3
    seen = np.einsum("ni,ij,nj->n", left, low, right) + 0.1 * rng.normal(size=rows)
    who, what = rng.integers(0, 30, rows), rng.integers(0, 25, rows)
    taste = np.sum(rng.normal(size=(30, 3))[who] * rng.normal(size=(25, 3))[what], axis=1)
    rough = np.sign(np.sin(7 * cube[:, :1] + 5 * cube[:, 1:2]))[:, 0] + 0.5 * rng.normal(size=rows)
    body, ill = bundled("diabetes")
    raw = _f(np.where(cube[:, 4] > 0.5, 40.0, 10.0) * cube[:, 0] + 5 * rng.normal(size=rows))
    head = models.square_head
    return [
        Subject("waves", _net(1, 1, head), (_f(line), _f(waves)), "adam", 400, 24, 2, 30),
        Subject("arm", _net(3, 2, head), (_unit(angles), _f(hand)), "rmsprop", 300, 32, 2, 40),
        Subject("flow", _net(5, 1, head, "relu"), (_unit(cube), _unit(flow)),
                "momentum", 300, 24, 1, 40),
        Subject("counts", _net(5, 1, models.poisson_head), (_unit(cube), _f(counts)),
                "lion", 300, 16, 1, 50),
        Subject("loud", _net(5, 2, models.gaussian_head), (_unit(cube), _f(loud)),
                "adam", 300, 16, 1, 50),
        Subject("tails", _net(5, 2, student_head), (_unit(cube), _f(tails)),
                "adagrad", 300, 24, 1, 50),
        Subject("mixtures", lambda w: models.mlp([20, w, 20], head),
                (_unit(mixed), _unit(mixed)), "momentum", 250, 12, 1, 40),
        Subject("sensing", sensing(12), (left, right, _f(seen)), "sgd", 400, 4, 1, 70),
        Subject("tastes", lambda r: models.factorisation(30, 25, r), (who, what, _f(taste)),
                "adagrad", 400, 6, 1, 250),
        Subject("cosines", features_of(5, 1, head), (_unit(cube), _f(rough)),
                "sgd", 400, 80, 3, 60),
        Subject("median", _net(10, 1, pinball_head), (_unit(body), _unit(ill)),
                "adam", 300, 16, 1, 60),
        Subject("prices", _deep(5, 1, head), (_unit(cube), raw), "rmsprop", 300, 16, 1, 50),
    ]  # fmt: skip


def subjects() -> list[Subject]:
    """The tasks of the fifth split."""
    return _classes(np.random.default_rng(501)) + _numbers(np.random.default_rng(502))
