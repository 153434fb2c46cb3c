"""Linear models, networks, inverse problems, quadratics: half for tuning, half for the report."""

from __future__ import annotations

import models
import numpy as np

from tasks.data import bundled, scaled, standard, windows


def rows() -> list[tuple]:
    """Name, functions, data, batch size and steps of each task."""
    return _classification() + _regression()


def _classification() -> list[tuple]:
    x, y = bundled("digits")
    small = x / np.float32(16)
    cancer, sick = bundled("breast_cancer")
    wine, cellar = bundled("wine")
    iris, species = bundled("iris")
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
        ("digits-summed", summed[0], scaled(summed[1], 128.0), (small, y), 128, 250),
        ("digits-conv", *models.conv(8, 10), (small, y), 32, 300),
        ("digits-deep", *models.mlp(deep, models.softmax_head, "relu"), (small, y), 32, 400),
        ("digits-constant", net[0], scaled(net[1], 1.0, 1000.0), (small, y), 64, 300),
        ("digits-noisy-labels", *net, (small, noisy), 8, 400),
        ("digits-hinge", *models.mlp([64, 1], models.hinge_head, l2=1e-3),
         (small, (y % 2).astype(np.float32)), 16, 400),
        ("cancer-raw", *one, (cancer, sick32), 569, 400),
        ("cancer-linear", *one, (standard(cancer), sick32), 16, 300),
        ("cancer-mlp", *models.mlp([30, 16, 1], models.logistic_head),
         (standard(cancer), sick32), 8, 300),
        ("wine-raw", *models.mlp([13, 3], models.softmax_head), (wine, cellar), 32, 400),
        ("wine-mlp", *models.mlp([13, 16, 3], models.softmax_head, "relu"),
         (standard(wine), cellar), 16, 200),
        ("iris-mlp", *models.mlp([4, 16, 3], models.softmax_head), (iris, species), 8, 300),
        ("text-1", *models.embedding(40, 1, 16, 32), windows(1), 64, 400),
        ("text-3", *models.embedding(40, 3, 12, 48), windows(3), 32, 500),
    ]  # fmt: skip


def _regression() -> list[tuple]:
    rng = np.random.default_rng(11)
    x, target = bundled("diabetes")
    y = target.astype(np.float32)
    unit = ((y - y.mean()) / y.std()).astype(np.float32)
    digits = bundled("digits")[0] / np.float32(16)
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
        ("diabetes-raw-target", *line, (standard(x), y), 32, 400),
        ("diabetes-mlp", *models.mlp([10, 24, 1], models.square_head), (standard(x), unit), 32,
         300),
        ("diabetes-unscaled", *line, (x, unit), 442, 400),
        ("autoencoder", *models.mlp([64, 16, 64], models.square_head), (digits, digits), 64, 300),
        ("deconvolution", *models.mlp([48, 1], models.square_head), (blur, blur @ truth), 48, 400),
        ("heat-source", *models.mlp([48, 1], models.square_head), (heat, heat @ truth), 16, 400),
        ("factorisation", *models.factorisation(40, 30, 3), (rows, cols, values), 64, 500),
        ("gaussian", *models.mlp([10, 16, 2], models.gaussian_head), (standard(x), near), 32,
         400),
        ("poisson", *models.mlp([10, 1], models.poisson_head), (standard(x), counts), 32, 300),
        ("quadratic-noisy", *models.quadratic(steep), (shifts / np.sqrt(steep).astype("f"),), 8,
         400),
        ("quadratic-exact", *models.quadratic(np.logspace(-2, 2, 30)),
         (np.zeros((1, 30), np.float32),), 1, 300),
        ("tiny-scale", *models.mlp([10, 1], models.square_head),
         (standard(x) * np.float32(1e-2), unit * np.float32(1e-3)), 64, 300),
        ("rosenbrock", *models.rosenbrock(10), (np.zeros((1, 1)),), 1, 400),
    ]  # fmt: skip
