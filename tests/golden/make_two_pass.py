"""Writes two_pass.npz: where the authors' packages and Optax arrive after 1, 10 and 100 steps.

Run from the root of the repository, with the packages of ``pip install "stepsize[peers]"`` and
``pip install dadaptation prodigyopt dog-optimizer momo-opt``: ``python
tests/golden/make_two_pass.py``.
"""

import json
from pathlib import Path

import dadaptation
import dog
import jax
import momo
import numpy as np
import optax
import prodigyopt
import torch

jax.config.update("jax_enable_x64", True)
STEPS = 100
MARKS = (1, 10, 100)
SHAPES = {"w": (4, 3), "b": (3,)}

# Our class, its hyperparameters, and the authors' class; they share the names.
TORCH = [
    ("DoG", {}, dog.DoG),
    ("DoG", {"reps_rel": 1e-2, "weight_decay": 0.1}, dog.DoG),
    ("LDoG", {"reps_rel": 1e-2}, dog.LDoG),
    ("DAdaptSGD", {"d0": 1e-3}, dadaptation.DAdaptSGD),
    ("DAdaptSGD", {"d0": 1e-3, "momentum": 0.9, "growth_rate": 1.5}, dadaptation.DAdaptSGD),
    ("DAdaptAdam", {"d0": 1e-3, "weight_decay": 0.1}, dadaptation.DAdaptAdam),
    ("DAdaptAdam", {"d0": 1e-3, "weight_decay": 0.1, "decouple": True}, dadaptation.DAdaptAdam),
    ("DAdaptAdam", {"use_bias_correction": True, "growth_rate": 1.2}, dadaptation.DAdaptAdam),
    ("Prodigy", {"d0": 1e-3, "weight_decay": 0.1}, prodigyopt.Prodigy),
    ("Prodigy", {"weight_decay": 0.1, "decouple": False, "d_coef": 2.0}, prodigyopt.Prodigy),
    ("Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}, prodigyopt.Prodigy),
    ("Prodigy", {"growth_rate": 1.1, "lr": 0.5}, prodigyopt.Prodigy),
    ("MoMo", {"lr": 0.1}, momo.Momo),
    ("MoMo", {"weight_decay": 0.1, "lb": -1.0, "bias_correction": True}, momo.Momo),
    ("MoMo", {"use_fstar": True}, momo.Momo),
    ("MoMoAdam", {"lr": 0.1}, momo.MomoAdam),
    ("MoMoAdam", {"lr": 1.0, "weight_decay": 0.1, "lb": -1.0}, momo.MomoAdam),
    ("MoMoAdam", {"lr": 1.0, "use_fstar": True}, momo.MomoAdam),
]

# Our class, its hyperparameters, and Optax's transformation.
OPTAX = [
    ("LAMB", {"lr": 0.01, "weight_decay": 0.1}, optax.lamb(0.01, weight_decay=0.1)),
    ("LAMB", {"lr": 0.1, "eps": 1e-3}, optax.lamb(0.1, eps=1e-3)),
    (
        "NovoGrad",
        {"lr": 0.01, "betas": [0.9, 0.25], "weight_decay": 0.1, "eps": 1e-6},
        optax.novograd(0.01, weight_decay=0.1),
    ),
    ("DoWG", {}, optax.contrib.dowg()),
    ("COCOB", {}, optax.contrib.cocob()),
    ("COCOB", {"alpha": 3.0, "weight_decay": 0.1}, optax.contrib.cocob(1.0, 3.0, 1e-8, 0.1)),
    ("PolyakSGD", {"lr": 0.5, "eps": 1e-3}, optax.polyak_sgd(0.5, eps=1e-3)),
    (
        "PolyakSGD",
        {"f_min": 3.0, "positive": True},
        optax.polyak_sgd(1.0, f_min=3.0, variant="sps+"),
    ),
]

# Our inner class at a rate of 1, Mechanic's hyperparameters, and Optax's transformation.
OPTAX += [
    ("Mechanic(SGD)", {}, optax.contrib.mechanize(optax.sgd(1.0))),
    ("Mechanic(Adam)", {"s_init": 1e-3}, optax.contrib.mechanize(optax.adam(1.0), s_init=1e-3)),
    (
        "Mechanic(Lion)",
        {"weight_decay": 0.1, "num_betas": 3},
        optax.contrib.mechanize(optax.lion(1.0, weight_decay=0.0), 0.1, num_betas=3),
    ),
]

# LARS as timm states it with always_adapt=True.
LARS = [
    {"lr": 1.0, "trust_coefficient": 0.1, "weight_decay": 0.1},
    {"lr": 0.5, "trust_coefficient": 0.05, "nesterov": True, "momentum": 0.8},
]


def problem(dtype, numbers):
    """A parabola with a little noise in its gradients: the loss and the gradients at a point."""

    def value_and_grad(x, step):
        loss, grads = 0.0, {}
        for name in SHAPES:
            steep, bottom, noise = (numbers[f"{name}_{kind}"] for kind in ("a", "c", "noise"))
            apart = x[name].astype(float) - bottom
            loss += float((steep * apart**2).sum() / 2)
            grads[name] = (steep * apart + noise[step]).astype(dtype)
        return loss, grads

    return value_and_grad


def torch_path(cls, hyperparams, x0, value_and_grad):
    torch.set_default_dtype(torch.float64 if x0["w"].dtype == np.float64 else torch.float32)
    x = {name: torch.from_numpy(leaf.copy()) for name, leaf in x0.items()}
    optimizer = cls(list(x.values()), **hyperparams)
    for step in range(STEPS):
        loss, grads = value_and_grad({name: leaf.numpy() for name, leaf in x.items()}, step)
        for name, g in grads.items():
            x[name].grad = torch.from_numpy(g)
        if cls.__module__.startswith("momo"):
            optimizer.step(loss=torch.tensor(loss))
        else:
            optimizer.step()
        yield {name: leaf.numpy().copy() for name, leaf in x.items()}


def optax_path(transformation, x0, value_and_grad):
    transformation = optax.with_extra_args_support(transformation)
    x = {name: jax.numpy.asarray(leaf) for name, leaf in x0.items()}
    state = transformation.init(x)
    for step in range(STEPS):
        here = {name: np.asarray(leaf) for name, leaf in x.items()}
        loss, grads = value_and_grad(here, step)
        updates, state = transformation.update(grads, state, x, value=loss)
        x = optax.apply_updates(x, updates)
        yield {name: np.asarray(leaf) for name, leaf in x.items()}


def lars_path(h, x0, value_and_grad):
    h = {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False, **h}
    x = {name: leaf.copy() for name, leaf in x0.items()}
    buffer = {name: np.zeros_like(leaf) for name, leaf in x0.items()}
    for step in range(STEPS):
        _, grads = value_and_grad(x, step)
        for name, g in grads.items():
            size, slope = (float(np.linalg.norm(a.astype(float))) for a in (x[name], g))
            below = slope + size * h["weight_decay"] + 1e-8
            ratio = h["trust_coefficient"] * size / below if size and slope else 1.0
            g = (g + h["weight_decay"] * x[name]) * ratio
            buffer[name] = buffer[name] * h["momentum"] + g
            x[name] -= h["lr"] * (
                g + h["momentum"] * buffer[name] if h["nesterov"] else buffer[name]
            )
        yield {name: leaf.copy() for name, leaf in x.items()}


def main():
    random = np.random.default_rng(20240608)
    numbers = {}
    for name, shape in SHAPES.items():
        numbers[f"{name}_a"] = 10.0 ** random.uniform(-1, 1, shape)
        numbers[f"{name}_c"] = random.normal(size=shape)
        numbers[f"{name}_noise"] = 0.1 * random.normal(size=(STEPS, *shape))
        # Single precision numbers, so that both dtypes see the same problem.
        numbers[f"{name}_x0"] = random.normal(size=shape).astype(np.float32)
    numbers = {key: value.astype(np.float32) for key, value in numbers.items()}
    arrays = {**numbers, "marks": np.array(MARKS)}
    for dtype in (np.float32, np.float64):
        x0 = {name: numbers[f"{name}_x0"].astype(dtype) for name in SHAPES}
        given = problem(dtype, {key: value.astype(float) for key, value in numbers.items()})
        paths = [(n, h, torch_path(cls, h, x0, given)) for n, h, cls in TORCH]
        paths += [(n, h, optax_path(made, x0, given)) for n, h, made in OPTAX]
        paths += [("LARS", h, lars_path(h, x0, given)) for h in LARS]
        for name, hyperparams, path in paths:
            points = [x for step, x in enumerate(path, 1) if step in MARKS]
            key = f"{name} {json.dumps(hyperparams)} {np.dtype(dtype)}"
            arrays.update({f"{key} {leaf}": np.stack([x[leaf] for x in points]) for leaf in SHAPES})
    np.savez_compressed(Path(__file__).parent / "two_pass.npz", **arrays)


if __name__ == "__main__":
    main()
