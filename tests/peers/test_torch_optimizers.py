"""The torch optimizers beside torch's own: trajectories, state, groups, schedulers, copies."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import stepsize.interop.torch as interop
from cases import LOOP_CASES
from stepsize.interop.torch import AdamW
from stepsize.interop.torch.making import CLASSES
from torch_cases import ALL, CASES, SHARED, case_id, distance, net, same, train, twins

# In double precision, and rounding is fed back for some steps.
TOLERANCE = 1e-12


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)  # also of the scalars in torch's state
    yield
    torch.set_default_dtype(torch.float32)


def needs(optimizer):
    return {"loss": 1.0} if getattr(optimizer, "rule", None) and optimizer.rule.needs_loss else {}


def walk(optimizer, tensors, steps=3):
    for step in range(steps):
        for i, p in enumerate(tensors):
            generator = torch.Generator().manual_seed(10 * step + i)
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step(**needs(optimizer))


def tensors(*shapes):
    torch.manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes or [(3, 4), (5,)]]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_same_trajectory(case):
    one, theirs, two, ours = twins(*case)
    assert train(one, theirs, 12) == pytest.approx(train(two, ours, 12), rel=TOLERANCE)
    assert distance(one, two) <= TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_state_goes_both_ways(case):
    """Each side goes on from the other's state as the other would have."""
    one, theirs, two, ours = twins(*case)
    train(one, theirs, 6)
    train(two, ours, 6)
    their_dict, our_dict = (copy.deepcopy(each.state_dict()) for each in (theirs, ours))
    assert their_dict["state"].keys() == our_dict["state"].keys()
    for key, entry in their_dict["state"].items():
        assert our_dict["state"][key].keys() == entry.keys()
        for name, value in entry.items():
            # The last step's momenta may have no digits in common with their rounding.
            torch.testing.assert_close(our_dict["state"][key][name], value, rtol=1e-9, atol=1e-13)
    assert set(their_dict["param_groups"][0]) <= set(our_dict["param_groups"][0])
    theirs.load_state_dict(our_dict)
    ours.load_state_dict(their_dict)
    train(one, theirs, 6, first=6)
    train(two, ours, 6, first=6)
    assert distance(one, two) <= TOLERANCE
    assert ours.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_resumes_to_the_bit(name):
    def made():
        parameters = tensors((3, 4), (5,), ())
        groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.03}]
        return parameters, getattr(interop, name)(groups, lr=0.02)

    whole, optimizer = made()
    walk(optimizer, whole, 7)
    parts, first = made()
    walk(first, parts, 4)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = getattr(interop, name)([{"params": parts[:1]}, {"params": parts[1:]}], lr=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    for step in range(4, 7):
        for i, p in enumerate(parts):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * step + i))
        second.step(**needs(second))
    assert all(torch.equal(p, q) for p, q in zip(whole, parts, strict=True))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deep", "pickle"]
)
def test_copies_go_on_alike_and_apart(name, copied):
    here = tensors()
    optimizer = getattr(interop, name)(here, lr=0.02, clip_norm=1.0)
    walk(optimizer, here)
    there, other = copied((here, optimizer))
    assert type(other) is type(optimizer)
    before = [p.detach().clone() for p in there]
    walk(optimizer, here)
    assert all(torch.equal(p, q) for p, q in zip(before, there, strict=True))
    walk(other, there)
    assert all(torch.equal(p, q) for p, q in zip(here, there, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_one_step_is_the_rule_on_the_tensors_own_memory(name):
    here = tensors()
    addresses = [p.data_ptr() for p in here]
    optimizer = getattr(interop, name)(here, lr=0.02)
    arrays = [p.detach().numpy().copy() for p in here]
    plain = optimizer.rule(arrays, lr=0.02)
    for _ in range(3):
        walk(optimizer, here, steps=1)
        plain.step([p.grad.numpy() for p in here], **needs(optimizer))
    assert [p.data_ptr() for p in here] == addresses
    assert all((p.detach().numpy() == x).all() for p, x in zip(here, arrays, strict=True))


SCHEDULERS = {
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: torch.optim.lr_scheduler.ConstantLR(o, total_iters=3),
    "LinearLR": lambda o: torch.optim.lr_scheduler.LinearLR(o),
    "ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 6),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        o, 3
    ),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.05, 3),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=12),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [SCHEDULERS["LinearLR"](o), SCHEDULERS["ExponentialLR"](o)], [4]
    ),
    "ChainedScheduler": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [SCHEDULERS["ConstantLR"](o), SCHEDULERS["ExponentialLR"](o)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05, anneal_epochs=4),
}


def test_the_schedulers_are_those_of_torch():
    found = set(torch.optim.lr_scheduler.__all__) | {"SWALR"}
    assert found - {"LRScheduler", "ReduceLROnPlateau"} == set(SCHEDULERS)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name, keywords", [("SGD", {"momentum": 0.9}), ("AdamW", {})])
def test_schedulers_of_rate_and_momentum(name, keywords, scheduler):
    one, theirs, two, ours = twins(name, {"lr": 0.02, **keywords})
    train(one, theirs, 10, scheduler=SCHEDULERS[scheduler](theirs))
    train(two, ours, 10, scheduler=SCHEDULERS[scheduler](ours))
    assert distance(one, two) <= TOLERANCE


@pytest.mark.parametrize("name", SHARED)
def test_every_class_follows_a_scheduler(name):
    one, theirs, two, ours = twins(name, {"lr": 0.02})
    late = int(name == "ASGD")  # torch's uses a new rate one step after all the others do
    factor = torch.optim.lr_scheduler.LambdaLR
    train(one, theirs, 10, scheduler=factor(theirs, lambda t: 0.5 ** (t // 2)))
    train(two, ours, 10, scheduler=factor(ours, lambda t: 0.5 ** (max(t - late, 0) // 2)))
    assert distance(one, two) <= TOLERANCE


def test_plateaus_lower_the_rate():
    here = tensors()
    optimizer = AdamW(here, lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for _ in range(2):
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    before = here[1].detach().clone()
    walk(optimizer, here, steps=1)
    assert (here[1] - before).abs().max().item() == pytest.approx(0.01, rel=0.2)


def test_groups_are_live():
    one, theirs, two, ours = twins("SGD", {"lr": 0.02})
    for model, optimizer in ((one, theirs), (two, ours)):
        optimizer.param_groups.clear()
        optimizer.add_param_group({"params": list(model.conv.parameters()), "momentum": 0.5})
        train(model, optimizer, 3)
        optimizer.add_param_group({"params": list(model.often.parameters()), "lr": 0.1})
        train(model, optimizer, 3, first=3)
        first, second = optimizer.param_groups
        second["momentum"] = 0.9  # asks for state
        first["weight_decay"] = torch.tensor(0.1)
        train(model, optimizer, 3, first=6)
        second["nesterov"] = True
        first["lr"] = 0.0
        second["params"].append(model.scale)
        train(model, optimizer, 3, first=9)
        first["lr"] = torch.tensor(0.01)
        train(model, optimizer, 2, first=12)
        first["lr"].fill_(0.03)
        train(model, optimizer, 2, first=14)
    assert distance(one, two) <= TOLERANCE
    assert torch.equal(one.seldom.weight, two.seldom.weight)


def test_a_decay_may_be_decoupled_on_the_way():
    one, theirs, two, ours = twins("RAdam", {"lr": 0.02, "weight_decay": 0.3})
    for model, optimizer in ((one, theirs), (two, ours)):
        train(model, optimizer, 4)
        optimizer.param_groups[0]["decoupled_weight_decay"] = True
        train(model, optimizer, 4, first=4)
    assert distance(one, two) <= TOLERANCE


def test_a_group_that_does_not_fit_is_not_added():
    here = tensors()
    optimizer = AdamW(here[:1], lr=0.1)
    with pytest.raises(ValueError, match="AdamW: group 1: lr must be"):
        optimizer.add_param_group({"params": here[1:], "lr": -1.0})
    assert len(optimizer.param_groups) == 1
    walk(optimizer, here)


def test_state_is_live_too():
    """Looked at, edited, replaced and cleared, as people do to restart an optimizer."""
    one, theirs, two, ours = twins("Adam", {"lr": 0.02})
    for model, optimizer in ((one, theirs), (two, ours)):
        train(model, optimizer, 3)
        for entry in optimizer.state.values():
            entry["exp_avg"].mul_(0.5)
            entry["exp_avg_sq"] = entry["exp_avg_sq"] * 2
            entry["step"] += 2
        train(model, optimizer, 3, first=3)
        del optimizer.state[model.scale]
        train(model, optimizer, 3, first=6)
        optimizer.state.clear()
        train(model, optimizer, 3, first=9)
    assert distance(one, two) <= TOLERANCE
    assert ours.state[two.conv.weight]["step"] == 3


def test_state_shows_what_the_next_step_starts_from():
    here = tensors()
    optimizer = AdamW(here)
    assert len(optimizer.state) == 0
    here[0].grad = torch.ones_like(here[0])
    optimizer.step()
    assert list(optimizer.state) == [here[0]]
    entry = optimizer.state[here[0]]
    assert entry["step"] == 1 and entry["exp_avg"].shape == here[0].shape
    optimizer.step()
    assert optimizer.state[here[0]]["exp_avg"] is entry["exp_avg"]
    assert optimizer.state[here[0]]["step"] == 2


@pytest.mark.parametrize("name", ALL)
def test_closures(name):
    here = tensors()
    optimizer = getattr(interop, name)(here, lr=1e-4)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = sum((p**2).sum() for p in here)
        loss.backward()
        return loss

    with torch.no_grad():
        losses = [optimizer.step(closure).item() for _ in range(3)]
    assert calls == [True] * 3 and losses[2] <= losses[0]


def test_rules_that_need_the_loss_ask_for_it():
    here = tensors()
    optimizer = interop.PolyakSGD(here)
    walk(optimizer, here)
    with pytest.raises(TypeError, match=r"PolyakSGD: the rule needs the loss; call step\(closure"):
        optimizer.step()


@pytest.mark.parametrize("name", ALL)
def test_without_gradients_nothing_moves(name):
    here = tensors()
    optimizer = getattr(interop, name)(here)
    before = [p.detach().clone() for p in here]
    assert optimizer.step() is None
    assert len(optimizer.state) == (2 if name == "Adagrad" else 0)
    assert all(torch.equal(p, q) for p, q in zip(here, before, strict=True))


def test_hooks_run_in_order():
    said = []
    here = tensors()
    optimizer = AdamW(here)
    optimizer.register_step_pre_hook(lambda *_: said.append("before"))
    optimizer.register_step_post_hook(lambda *_: said.append("after"))
    optimizer.register_state_dict_pre_hook(lambda o: said.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, d: said.append(d["note"]))
    optimizer.register_load_state_dict_post_hook(lambda o: said.append("loaded"))
    walk(optimizer, here, steps=1)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert said == ["before", "after", "saving", 1, "loaded"]


def test_a_hook_may_change_what_is_loaded():
    here = tensors()
    optimizer = AdamW(here)
    walk(optimizer, here)

    def half(optimizer, d):
        entries = {k: {**e, "exp_avg": e["exp_avg"] / 2} for k, e in d["state"].items()}
        return {**d, "state": entries}

    optimizer.register_load_state_dict_pre_hook(half)
    before = optimizer.state[here[0]]["exp_avg"].clone()
    optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(optimizer.state[here[0]]["exp_avg"], before / 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: e.pop("exp_avg_sq"), "parameter 0 has step, exp_avg, expected exp_avg, exp"),
        (lambda e: e.update(exp_avg=torch.ones(2)), r"exp_avg has shape \(2,\), expected \(3, 4\)"),
        (
            lambda e: (e.clear(), e.update(momentum_buffer=torch.ones(3, 4))),
            "has momentum_buffer, expected exp_avg, exp_avg_sq; load it into the class",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    here = tensors()
    optimizer = AdamW(here, lr=0.1)
    walk(optimizer, here)
    before = copy.deepcopy(optimizer.state_dict())
    spoiled = copy.deepcopy(before)
    spoiled["param_groups"][0]["lr"] = 0.2
    change(spoiled["state"][0])
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(spoiled)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)


def test_the_optimizer_prints_as_torchs():
    assert "lr: 0.1" in repr(AdamW(tensors(), lr=0.1))


def test_gradient_scaling_skips_and_steps():
    model = net()
    optimizer = AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    before = copy.deepcopy(model)
    for value in (float("inf"), 1.0):
        model.scale.grad = torch.tensor(value)
        scaler.scale(torch.ones(()))
        scaler.step(optimizer)
        scaler.update()
        assert same(model, before) == (value != 1.0)


def test_muon_goes_on_from_torchs():
    torch.set_default_dtype(torch.float32)
    p, q = (torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4)) for _ in range(2))
    theirs, ours = torch.optim.Muon([p], lr=0.05), interop.Muon([q], lr=0.05)
    walk(theirs, [p])
    ours.load_state_dict(theirs.state_dict())
    walk(ours, [q])
    walk(theirs, [p])
    momenta = [o.state[x]["momentum_buffer"] for o, x in ((theirs, p), (ours, q))]
    torch.testing.assert_close(*momenta)
    q.data.copy_(p)
    walk(ours, [q])
    walk(theirs, [p])
    torch.testing.assert_close(p, q, rtol=0, atol=0.01)  # of steps of 0.05 in bfloat16
    theirs.load_state_dict(ours.state_dict())
    walk(theirs, [p])


def test_options_of_the_loop_are_those_of_the_rules():
    for case in LOOP_CASES:
        random = np.random.default_rng(0)
        x = random.standard_normal((5, 3)).astype(np.float32)
        p = torch.nn.Parameter(torch.from_numpy(x.copy()))
        ours, theirs = case.make(x), CLASSES[case.cls.__name__]([p], **case.keywords)
        for step in range(6):
            grad = random.standard_normal((5, 3)).astype(np.float32)
            p.grad = torch.from_numpy(grad)
            if step == 3:  # a run that is resumed
                state = theirs.state_dict()
                theirs = CLASSES[case.cls.__name__]([p], **case.keywords)
                theirs.load_state_dict(state)
            ours.step(grad)
            theirs.step()
        assert (p.detach().numpy() == x).all(), case
