"""Live agreement with the torch that is installed: ``pytest tests/peers/test_torch.py``."""

import numpy as np
import pytest
import torch

import stepsize as ss
from make_torch import theirs
from trajectories import DTYPES, GRADIENTS, OPTIONS, TOLERANCE, combinations, distance, ours


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("rule", OPTIONS)
def test_every_combination_agrees(rule, kind, dtype):
    for keywords in combinations(rule):
        expected = theirs(rule, keywords, kind, dtype)
        assert distance(ours(rule, keywords, kind, dtype), expected) <= TOLERANCE[dtype], keywords


@pytest.mark.parametrize("rule", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_a_network_trains_the_same(rule):
    """Parameters that torch differentiates, updated by either side."""
    keywords = {"lr": 0.01, "weight_decay": 0.01}

    def network():
        generator = torch.Generator().manual_seed(0)
        shapes = [(8, 16), (16,), (16, 3), (3,)]
        return [
            torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
            for shape in shapes
        ]

    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((64, 8), generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (64,), generator=generator)

    def gradients(tensors):
        w1, b1, w2, b2 = tensors
        loss = torch.nn.functional.cross_entropy(torch.tanh(inputs @ w1 + b1) @ w2 + b2, targets)
        return torch.autograd.grad(loss, tensors)

    a, b = network(), network()
    optimizer = getattr(torch.optim, rule)(a, **keywords)
    views = [tensor.detach().numpy() for tensor in b]
    mine = getattr(ss, rule)(views, **keywords)
    for _ in range(100):
        for tensor, gradient in zip(a, gradients(a), strict=True):
            tensor.grad = gradient
        optimizer.step()
        mine.step([gradient.numpy() for gradient in gradients(b)])
    for one, two in zip(a, views, strict=True):
        one = one.detach().numpy()
        assert np.max(np.abs(one - two)) <= 1e-12 * np.max(np.abs(one))
