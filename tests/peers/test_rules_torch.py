"""Whole runs beside torch.optim, closed loop: each package walks by its own gradients."""

import inspect

import numpy as np
import pytest
import torch

import stepsize as ss

CASES = [
    ("Adadelta", {"lr": 1.0}),
    ("Adamax", {"lr": 0.02}),
    ("ASGD", {"lr": 0.01, "t0": 30, "lambd": 0.01}),
    ("NAdam", {"lr": 0.02}),
    ("RAdam", {"lr": 0.02}),
    ("Rprop", {"lr": 0.01}),
    ("Adam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adafactor", {"lr": 0.02, "eps": (None, 1e-3)}),
]
WORDS = ("foreach", "fused", "capturable", "differentiable")  # of torch's implementations
SHARED = [cls for cls in ss.optimizers.registry() if hasattr(torch.optim, cls.__name__)]
# Single precision rounds by 6e-8, and the loop feeds it back a hundred times.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    # The scalars of torch's state follow the default dtype.
    kept = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    yield request.param
    torch.set_default_dtype(kept)


def test_rules_take_torchs_arguments_and_their_defaults():
    assert len(SHARED) == 14
    for cls in SHARED:
        theirs = inspect.signature(getattr(torch.optim, cls.__name__)).parameters
        given = {k: p.default for k, p in theirs.items() if k not in ("params", *WORDS)}
        if cls.needs_closure:
            given = {k: v for k, v in given.items() if v is not None}
        said, left_out = cls(np.ones((2, 2)), **given), cls(np.ones((2, 2)))
        assert said.state_dict()["groups"] == left_out.state_dict()["groups"], cls


@pytest.mark.parametrize("name, hyperparams", CASES, ids=[name for name, _ in CASES])
def test_a_hundred_steps_of_a_quadratic(name, hyperparams, dtype):
    random = np.random.default_rng(5)
    scales = np.array(10.0 ** random.uniform(-1, 0.5, 40), dtype)
    goal, start = (np.array(random.standard_normal(40), dtype) for _ in range(2))
    x, y = start.copy(), torch.from_numpy(start.copy())
    ours = getattr(ss, name)(x, **hyperparams)
    theirs = getattr(torch.optim, name)([y], foreach=False, **hyperparams)
    for _ in range(100):
        ours.step(scales * (x - goal))
        y.grad = torch.from_numpy(scales * (y.numpy() - goal))
        theirs.step()
    difference = np.max(np.abs(x - y.numpy())) / np.max(np.abs(x))
    assert difference <= TOLERANCE[dtype]
