"""Writes shaped.npz: where torch and Optax arrive with rules that act on whole matrices.

Run from the root of the repository, with the packages of ``pip install "stepsize[peers]"``:
``python tests/golden/make_shaped.py``.
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)
# Muon rounds to bfloat16 in torch; ours keeps the dtype, so the reference does too.
torch.Tensor.bfloat16 = lambda self: self.clone()

STEPS = 100
MARKS = (1, 10, 100)
SHAPES = {"w": (5, 3), "t": (2, 3, 4), "b": (4,)}

TORCH = [
    ("Adafactor", {}, torch.optim.Adafactor),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "d": 1.5}, torch.optim.Adafactor),
    ("Adafactor", {"beta2_decay": -0.5, "eps": [1e-3, 0.1]}, torch.optim.Adafactor),
    ("Muon", {"lr": 0.02}, torch.optim.Muon),
    ("Muon", {"lr": 0.02, "nesterov": False, "weight_decay": 0.0, "ns_steps": 3}, torch.optim.Muon),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.8}, torch.optim.Muon),
]

OPTAX = [
    ("SM3", {"lr": 0.1}, optax.sm3(0.1)),
    ("SM3", {"lr": 0.01, "momentum": 0.5}, optax.sm3(0.01, momentum=0.5)),
]


def torch_path(cls, hyperparams, x0, grads):
    x = torch.from_numpy(x0.copy())
    keywords = {k: tuple(v) if isinstance(v, list) else v for k, v in hyperparams.items()}
    optimizer = cls([x], **keywords)
    for g in grads:
        x.grad = torch.from_numpy(g.copy())
        optimizer.step()
        yield x.numpy().copy()


def optax_path(transformation, x0, grads):
    x = jax.numpy.asarray(x0)
    state = transformation.init(x)
    for g in grads:
        updates, state = transformation.update(jax.numpy.asarray(g), state, x)
        x = optax.apply_updates(x, updates)
        yield np.asarray(x)


def main():
    random = np.random.default_rng(20240609)
    arrays = {"marks": np.array(MARKS)}
    for leaf, shape in SHAPES.items():
        # Single precision numbers, so that both dtypes see the same problem.
        x0 = random.normal(size=shape).astype(np.float32)
        grads = random.normal(size=(STEPS, *shape)) + random.normal(size=shape)
        grads = grads.astype(np.float32)
        arrays[f"{leaf} x0"], arrays[f"{leaf} grads"] = x0, grads
        for dtype in (np.float32, np.float64):
            start, given = x0.astype(dtype), grads.astype(dtype)
            known = [case for case in TORCH if case[0] != "Muon" or leaf == "w"]
            paths = [(n, h, torch_path(cls, h, start, given)) for n, h, cls in known]
            paths += [(n, h, optax_path(made, start, given)) for n, h, made in OPTAX]
            for name, hyperparams, path in paths:
                points = [x for step, x in enumerate(path, 1) if step in MARKS]
                key = f"{name} {json.dumps(hyperparams)} {np.dtype(dtype)} {leaf}"
                arrays[key] = np.stack(points)
    np.savez_compressed(Path(__file__).parent / "shaped.npz", **arrays)


if __name__ == "__main__":
    main()
