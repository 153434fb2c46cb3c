"""Bounds and the L1 penalty of the classes for torch tensors."""

import copy

import ml_dtypes
import numpy as np
import pytest
import torch

import stepsize as ss
from stepsize.interop.torch import FTRL, SGD, AdamW

TYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
}


def tensor(*values, dtype=torch.float32):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def step(optimizer, *grads):
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    for p, grad in zip(tensors, grads, strict=True):
        p.grad = torch.full_like(p, grad)
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_steps_end_inside_as_those_of_arrays(dtype):
    p = tensor(0.25, -0.25, dtype=dtype)
    optimizer = AdamW([p], lr=0.5, bounds=(-0.3, [0.4, 0.5]), l1=0.125)
    x = p.detach().double().numpy().astype(np.float64)
    other = ss.AdamW(x, lr=0.5, bounds=(-0.3, [0.4, 0.5]), l1=0.125)
    for grad in (3.0, -3.0, -3.0, -3.0):
        step(optimizer, grad)
        other.step(np.full(2, grad))
        held = p.detach().double().numpy()
        assert (held >= -0.3).all() and (held <= [0.4, 0.5]).all()
    np.testing.assert_allclose(held, x, atol=4e-3)


def between(dtype):
    """Numbers of the dtype, halves and hairs beside them, and what it cannot hold at all."""
    info = ml_dtypes.finfo(dtype)
    largest, least = float(info.max), float(info.smallest_subnormal)
    random = np.random.default_rng(0)
    scales = 10 ** random.uniform(np.log10(least) - 2, np.log10(largest) + 0.1, 800)
    held = np.array([1.0, float(info.smallest_normal), 3 * least, largest, 0.7, 1 / 3])
    held = held.astype(dtype).astype(float)
    steps = np.array([0.0, 0.25, 0.5, 0.75, 1e-9]) * float(info.eps)
    beside = (held[:, None] * (1 + np.concatenate([steps, -steps]))).ravel()
    found = np.concatenate([scales, beside, least * np.array([1e-3, 0.5, 1.0, 1.5]), [0.0]])
    found = found[np.isfinite(found)]
    return np.concatenate([found, -found])


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_bound_is_rounded_to_the_inner_side_as_that_of_an_array(dtype, side):
    numbers = TYPES[dtype]
    limits = between(numbers)
    top = float(ml_dtypes.finfo(numbers).max)
    if side == 0:
        limits = limits[limits <= top]  # of those above it no number lies inside
        bounds, inner, outer = (limits, None), np.inf, -top
    else:
        limits = limits[limits >= -top]
        bounds, inner, outer = (None, limits), -np.inf, top
    array = np.full(limits.size, inner).astype(numbers)
    p = torch.nn.Parameter(torch.full((limits.size,), inner, dtype=dtype))
    one, other = ss.SGD(array, lr=1.0, bounds=bounds), SGD([p], lr=1.0, bounds=bounds)
    array[:] = outer  # and the step brings it back inside
    with torch.no_grad():
        p.fill_(outer)
    one.step(np.zeros_like(array))
    step(other, 0.0)
    held = p.detach().double().numpy()
    assert np.array_equal(held, array.astype(float))
    assert (held >= limits if side == 0 else held <= limits).all()
    nearer = np.nextafter(array, np.array(-inner, numbers)).astype(float)
    assert (nearer < limits if side == 0 else nearer > limits).all()


def test_groups_have_their_own_and_changes_are_followed():
    p, q = tensor(0.0), tensor(0.0)
    optimizer = SGD([{"params": [p], "bounds": (-1, 1)}, {"params": [q]}], lr=1.0)
    step(optimizer, -5.0, -5.0)
    assert p.item() == 1 and q.item() == 5
    optimizer.param_groups[0]["bounds"] = (-1, 3)
    step(optimizer, -5.0, -5.0)
    assert p.item() == 3 and q.item() == 10
    other = SGD([p, q], lr=1.0)
    saved = {**other.state_dict(), "param_groups": []}
    rest = {k: v for k, v in other.state_dict()["param_groups"][0].items() if k != "params"}
    saved["param_groups"] = [{**rest, "params": [0]}, {**rest, "params": [1]}]
    optimizer.load_state_dict(saved)  # which says nothing of bounds
    step(optimizer, -5.0, -5.0)
    assert p.item() == 3
    twin = copy.deepcopy(optimizer)
    step(twin, -5.0, -5.0)
    assert twin.param_groups[0]["params"][0].item() == 3
    optimizer.add_param_group({"params": [tensor(0.5)], "bounds": (0, 1)})
    step(optimizer, -5.0, -5.0, -5.0)
    assert optimizer.param_groups[2]["params"][0].item() == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"SGD: 1 of 1 elements of .* start outside"):
        SGD([tensor(2.0)], bounds=(0, 1))
    with pytest.raises(ValueError, match=r"SGD: 1 lower bounds of .* lie above"):
        SGD([{"params": [tensor(2.0)], "bounds": (5, 1)}], lr=0.1)
    assert FTRL([tensor(2.0)], l1=0.5).param_groups[0]["l1"] == 0.5
    assert "bounds" not in AdamW([tensor(2.0)]).param_groups[0]
