"""Optimizers in the wrappers of trainers: objects of a class that is made from theirs."""

import copy

import pytest
import torch

import stepsize.interop.torch as interop


class Wrapper:
    """As Lightning and its Fabric wrap an optimizer."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.__class__ = type("Wrapped", (self.__class__, optimizer.__class__), {})

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


def made(rule):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    return model, rule(model.parameters())


def step(model, optimizer, i):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(i))
    optimizer.zero_grad()
    loss = (model(x) ** 2).mean()
    loss.backward()
    optimizer.step(loss=loss.detach())


def numbers(model):
    return [p.detach().clone() for p in model.parameters()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def packed(optimizer):
    state = optimizer.state_dict()["state"]
    return {i: {k: str(v) for k, v in entry.items()} for i, entry in state.items()}


@pytest.fixture(params=interop.CLASSES.values(), ids=interop.CLASSES)
def rule(request):
    return request.param


def test_a_wrapper_shows_the_state_of_what_it_wraps(rule):
    model, optimizer = made(rule)
    outside = Wrapper(optimizer)
    assert isinstance(outside, rule)
    for i in range(4):
        step(model, outside if i % 2 else optimizer, i)
        seen = {k: {n: str(v) for n, v in e.items()} for k, e in outside.state.items()}
        assert seen == {k: {n: str(v) for n, v in e.items()} for k, e in optimizer.state.items()}
        assert packed(outside) == packed(optimizer)


def test_what_is_set_and_loaded_through_a_wrapper_is_set(rule):
    model, optimizer = made(rule)
    other, plain = made(rule)
    outside = Wrapper(optimizer)
    for i in range(3):
        step(model, outside, i)
        step(other, plain, i)
    saved = copy.deepcopy(plain.state_dict())
    for group in saved["param_groups"]:
        group["lr"] = 0.5
    points = numbers(model)
    for i in range(3, 5):
        step(model, outside, i)
    outside.load_state_dict(saved)
    plain.load_state_dict(copy.deepcopy(saved))
    with torch.no_grad():
        for p, value in zip(model.parameters(), points, strict=True):
            p.copy_(value)
    extra = torch.nn.Parameter(torch.ones(2, 2))
    twin = torch.nn.Parameter(torch.ones(2, 2))
    outside.add_param_group({"params": [extra]})
    plain.add_param_group({"params": [twin]})
    assert len(optimizer.param_groups) == 2 and optimizer.param_groups[0]["lr"] == 0.5
    for i in range(3, 6):
        extra.grad, twin.grad = torch.full((2, 2), 0.1), torch.full((2, 2), 0.1)
        step(model, optimizer, i)
        step(other, plain, i)
    assert same(numbers(model), numbers(other)) and torch.equal(extra, twin)
    assert packed(outside) == packed(plain)


AVERAGING = [cls for cls in interop.CLASSES.values() if hasattr(cls, "averaged")]


@pytest.mark.parametrize("averaging", AVERAGING)
def test_the_average_through_a_wrapper_is_that_of_the_optimizer(averaging):
    model, optimizer = made(averaging)
    other, plain = made(averaging)
    outside = Wrapper(optimizer)
    for i in range(4):
        step(model, optimizer, i)
        step(other, plain, i)
        with plain.averaged():
            average = numbers(other)
        with outside.averaged():
            assert same(numbers(model), average)
            with pytest.raises(RuntimeError, match="average"):
                optimizer.state_dict()
            with pytest.raises(RuntimeError, match="average"):
                outside.state_dict()
        if hasattr(optimizer, "eval"):
            outside.eval()
            assert same(numbers(model), average)
            with pytest.raises(RuntimeError, match="train"):
                step(model, optimizer, 9)
            (outside if i % 2 else optimizer).train()
    assert same(numbers(model), numbers(other))
