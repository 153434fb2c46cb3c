"""Rules that answer with an average, in trainers that call `train` and `eval`."""

import copy
import io

import pytest
import torch

import stepsize.interop.torch as interop

AVERAGING = [cls for cls in interop.CLASSES.values() if hasattr(cls.rule, "averaged")]
# torch.optim.ASGD has no modes, and trainers evaluate it where it trains.
RULES = [cls for cls in AVERAGING if cls is not interop.ASGD]


def made(rule, dtype=torch.float32):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)).to(dtype)
    return model, rule(model.parameters())


def step(model, optimizer, i, loss=True):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(i))
    optimizer.zero_grad()
    found = (model(x.to(model[0].weight.dtype)).float() ** 2).mean()
    found.backward()
    optimizer.step(loss=found.detach())


def numbers(model):
    return [p.detach().clone() for p in model.parameters()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_eval_is_the_average_and_train_the_point_before(rule, dtype):
    model, optimizer = made(rule, dtype)
    other, plain = made(rule, dtype)
    for i in range(6):
        step(model, optimizer, i)
        step(other, plain, i)
        with plain.averaged():
            average = numbers(other)
        before = numbers(model)
        optimizer.eval()
        optimizer.eval()
        assert same(numbers(model), average)
        with optimizer.averaged():
            assert same(numbers(model), average)
        optimizer.train()
        optimizer.train()
        assert same(numbers(model), before)
    assert dtype == torch.bfloat16 or not same(average, before)
    assert "training_point" not in optimizer.state[model[0].weight]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_at_the_average_is_refused_and_changes_nothing(rule):
    model, optimizer = made(rule)
    optimizer.eval()  # before the first step there is no average
    step(model, optimizer, 0)
    optimizer.eval()
    before, state = numbers(model), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RuntimeError, match=r"call optimizer\.train\(\) first"):
        step(model, optimizer, 1)
    with pytest.raises(RuntimeError, match=r"call optimizer\.train\(\) first"):
        interop.lr_find(model, lambda m, x: m(x).mean(), [torch.ones(8, 4)], optimizer=optimizer)
    assert same(numbers(model), before)
    assert repr(optimizer.state_dict()) == repr(state)


@pytest.mark.parametrize("way", ["checkpoint", "deepcopy", "pickle"])
@pytest.mark.parametrize("rule", RULES)
def test_what_is_saved_after_eval_goes_on_bit_for_bit(rule, way):
    model, optimizer = made(rule)
    for i in range(3):
        step(model, optimizer, i)
    optimizer.eval()
    if way == "checkpoint":
        file = io.BytesIO()
        torch.save([optimizer.state_dict(), model.state_dict()], file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        copied, again = made(rule)
        again.load_state_dict(saved[0])
        copied.load_state_dict(saved[1])
    elif way == "deepcopy":
        copied, again = copy.deepcopy([model, optimizer])
    else:
        file = io.BytesIO()
        torch.save([model, optimizer], file)
        file.seek(0)
        copied, again = torch.load(file, weights_only=False)
    assert same(numbers(copied), numbers(model))
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        step(copied, again, 3)
    optimizer.train()
    again.train()
    for i in range(3, 6):
        step(model, optimizer, i)
        step(copied, again, i)
    assert same(numbers(copied), numbers(model))


def test_a_state_that_does_not_fit_the_mode_is_refused():
    model, optimizer = made(interop.ScheduleFreeAdamW)
    step(model, optimizer, 0)
    plain = copy.deepcopy(optimizer.state_dict())
    optimizer.eval()
    before = numbers(model)
    with pytest.raises(RuntimeError, match="saved at the training point"):
        optimizer.load_state_dict(plain)
    wrong = copy.deepcopy(optimizer.state_dict())
    wrong["state"][0]["training_point"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"training_point has shape \(7,\), expected \(3, 4\)"):
        optimizer.load_state_dict(wrong)
    assert same(numbers(model), before)


def test_only_rules_with_an_average_have_modes():
    # Trainers ask by hasattr.
    for cls in interop.CLASSES.values():
        assert (cls in RULES) == hasattr(cls, "eval") == hasattr(cls, "train")
