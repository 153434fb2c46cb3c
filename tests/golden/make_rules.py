"""Writes rules.npz: where torch and Optax arrive after 1, 10 and 100 steps.

Run from the root of the repository, with the packages of ``pip install "stepsize[peers]"``:
``python tests/golden/make_rules.py``.
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)

STEPS = 100
MARKS = (1, 10, 100)

# Our class, its hyperparameters; torch's class has the same name and the same hyperparameters.
TORCH = [
    ("Adadelta", {"lr": 0.9, "weight_decay": 0.01}),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.01, "betas": [0.8, 0.95], "momentum_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.01}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01, "betas": [0.5, 0.6]}),
    ("Rprop", {"lr": 0.01, "step_sizes": [1e-4, 0.05]}),
    ("ASGD", {"lr": 0.01, "lambd": 0.1, "alpha": 0.6, "t0": 20, "weight_decay": 0.01}),
]

# Our class, its hyperparameters, and Optax's transformation.
OPTAX = [
    ("AdaBelief", {"lr": 0.01}, lambda lr: optax.adabelief(lr)),
    ("Yogi", {"lr": 0.01}, lambda lr: optax.yogi(lr)),
    ("AdEMAMix", {"lr": 0.001}, lambda lr: optax.contrib.ademamix(lr)),
    ("ADOPT", {"lr": 0.01}, lambda lr: optax.contrib.adopt(lr)),
    ("SignSGD", {"lr": 0.01}, lambda lr: optax.sign_sgd(lr)),
    ("Lion", {"lr": 0.01}, lambda lr: optax.lion(lr, weight_decay=0.0)),
]


def torch_path(name, hyperparams, x0, grads):
    # The scalars of torch's state follow the default dtype.
    torch.set_default_dtype(torch.float64 if x0.dtype == np.float64 else torch.float32)
    x = torch.from_numpy(x0.copy())
    keywords = {k: tuple(v) if isinstance(v, list) else v for k, v in hyperparams.items()}
    optimizer = getattr(torch.optim, name)([x], foreach=False, **keywords)
    for g in grads:
        x.grad = torch.from_numpy(g.copy())
        optimizer.step()
        state = optimizer.state[x]
        yield x.numpy().copy(), state["ax"].numpy().copy() if "ax" in state else None


def optax_path(transformation, x0, grads):
    x = jax.numpy.asarray(x0)
    state = transformation.init(x)
    for g in grads:
        updates, state = transformation.update(jax.numpy.asarray(g), state, x)
        x = optax.apply_updates(x, updates)
        yield np.asarray(x), None


def main():
    rng = np.random.default_rng(20240607)
    size = 12
    scales = 10.0 ** rng.uniform(-3, 2, size)
    x0 = rng.normal(size=size)
    grads = (rng.normal(size=(STEPS, size)) + rng.normal(size=size)) * scales
    grads[rng.random(grads.shape) < 0.05] = 0
    # Single precision numbers, so that both dtypes see the same problem.
    x0, grads = x0.astype(np.float32), grads.astype(np.float32)
    arrays = {"x0": x0, "grads": grads, "marks": np.array(MARKS)}
    for dtype in (np.float32, np.float64):
        start, given = x0.astype(dtype), grads.astype(dtype)
        paths = [(n, h, torch_path(n, h, start, given)) for n, h in TORCH]
        paths += [(n, h, optax_path(make(h["lr"]), start, given)) for n, h, make in OPTAX]
        for name, hyperparams, path in paths:
            key = f"{name} {json.dumps(hyperparams)} {dtype.__name__}"
            points, averages = zip(*path, strict=True)
            arrays[key] = np.stack([points[mark - 1] for mark in MARKS])
            if averages[0] is not None:
                arrays[f"{key} average"] = np.stack([averages[mark - 1] for mark in MARKS])
    np.savez_compressed(Path(__file__).with_name("rules.npz"), **arrays)


if __name__ == "__main__":
    main()
