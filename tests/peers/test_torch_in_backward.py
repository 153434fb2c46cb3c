"""The step inside of the backward pass: the bits of the plain step, and no gradients kept."""

import gc
import math
import pickle
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as steps
from stepsize.interop.torch import in_backward
from stepsize.interop.torch.making import CLASSES
from together import alike, together

EVERY = [cls for cls in CLASSES.values() if not cls.rule.needs_loss]


class Tied(torch.nn.Module):
    """A parameter that is used twice, a frozen one, and one that is never used."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.last = torch.nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.frozen = torch.nn.Parameter(torch.ones(4), requires_grad=False)
        self.unused = torch.nn.Parameter(torch.ones(4, 2))

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)) * self.frozen)


def model(make=Tied, dtype=torch.float32):
    torch.manual_seed(0)
    return make().to(dtype)


def matrices_of(net, cls):
    return [p for p in net.parameters() if not (cls.rule.shaped and p.ndim != 2)]


def batches(count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(6, 4, generator=generator, dtype=torch.float32).to(dtype) for _ in range(count)
    ]


def train(net, optimizer, count=4, scheduler=None, dtype=torch.float32):
    for x in batches(count, dtype):
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def states(optimizer):
    return [
        {name: np.asarray(value).tobytes() for name, value in entry.items()}
        for entry in optimizer.state_dict()["state"].values()
    ]


def both(cls, *, worker=False, policies=None, dtype=torch.float32, **keywords):
    nets = model(dtype=dtype), model(dtype=dtype)
    optimizers = [cls(matrices_of(net, cls), **keywords) for net in nets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        hooks = in_backward(optimizers[1], worker=worker, **policies or {})
    for net, optimizer in zip(nets, optimizers, strict=True):
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        train(net, optimizer, scheduler=schedule, dtype=dtype)
    assert same(*nets)
    if dtype == torch.float32:
        assert states(optimizers[0]) == states(optimizers[1])
    hooks.remove()
    train(nets[0], optimizers[0], dtype=dtype)
    train(nets[1], optimizers[1], dtype=dtype)
    assert same(*nets)
    return hooks


@together("cls", EVERY, lambda cls: cls.__name__)
def test_every_rule_makes_the_steps_of_the_plain_loop(cls):
    for worker in (False, True):
        assert bool(both(cls, worker=worker).waits) == (cls.rule.scope == "all")


@together("dtype", [torch.bfloat16, torch.float16], alike)
def test_half_precision(dtype):
    both(steps.AdamW, dtype=dtype)
    both(steps.SGD, dtype=dtype, momentum=0.9, worker=True)


def test_no_gradient_is_kept():
    net = model(lambda: torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(5))))
    optimizer = steps.AdamW(net.parameters())
    kept = []
    for p in net.parameters():
        p.register_hook(lambda grad: kept.append(sum(q.grad is not None for q in net.parameters())))
    hooks = in_backward(optimizer)
    train(net, optimizer)
    assert max(kept) == 0
    assert not hooks.waits


@pytest.mark.parametrize("keywords", [{"clip_norm": 0.1}, {"on_nonfinite": "raise"}])
def test_what_needs_all_gradients_keeps_them_and_says_so(keywords):
    net = model()
    with pytest.warns(UserWarning, match="gradients of AdamW are kept until"):
        hooks = in_backward(steps.AdamW(net.parameters(), **keywords))
    assert hooks.waits
    both(steps.AdamW, **keywords)


def test_clipping_by_the_norm_of_the_step_before():
    nets = model(), model()
    plain = steps.SGD(nets[0].parameters(), lr=0.1)
    clipped = steps.SGD(nets[1].parameters(), lr=0.1, clip_norm=0.05)
    hooks = in_backward(clipped, norm="previous")
    assert not hooks.waits
    norms = []
    for k, x in enumerate(batches(4)):
        for net in nets:
            net(x).square().mean().backward()
        norms.append(
            float(
                torch.nn.utils.get_total_norm(
                    [p.grad for p in nets[0].parameters() if p.grad is not None]
                )
            )
        )
        known = norms[max(k - 1, 0)]
        for p in nets[0].parameters():
            if p.grad is not None:
                p.grad *= min(1, 0.05 / (known + 1e-6))
        plain.step()
        plain.zero_grad()
        clipped.step()
        assert math.isclose(hooks.grad_norm, norms[-1], rel_tol=1e-6)
        for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_run_goes_on_with_the_norm_of_before():
    def run(split):
        net = model()
        optimizer = steps.AdamW(net.parameters(), lr=0.1, clip_norm=0.05)
        hooks = in_backward(optimizer, norm="previous")
        for k, x in enumerate(batches(4)):
            if k == split:
                norm, saved = hooks.grad_norm, pickle.loads(pickle.dumps(optimizer.state_dict()))
                hooks.remove()
                optimizer = steps.AdamW(net.parameters(), lr=0.1, clip_norm=0.05)
                optimizer.load_state_dict(saved)
                hooks = in_backward(optimizer, norm="previous")
                hooks.grad_norm = norm
            net(x).square().mean().backward()
            optimizer.step()
        return net

    assert same(run(None), run(2))


@pytest.mark.parametrize("worker", [False, True])
def test_a_gradient_that_is_not_finite(worker):
    net = model(lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)))
    optimizer = steps.SGD(net.parameters(), lr=0.1, on_nonfinite="raise")
    hooks = in_backward(optimizer, nonfinite="leaf", worker=worker)
    before = [p.detach().clone() for p in net.parameters()]
    net[0].weight.register_hook(lambda grad: grad * math.nan)
    loss = net(batches(1)[0]).square().mean()
    with pytest.raises(ss.NonFiniteGradientError, match="gradient of parameter 0 holds NaN"):
        (loss.backward(), optimizer.step())
    changed = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert changed[2:] == [True, True]
    assert not changed[0]
    hooks.remove()  # nothing is left open
    optimizer.zero_grad()
    optimizer.step()


def test_or_it_is_skipped():
    net = model(lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)))
    optimizer = steps.SGD(net.parameters(), lr=0.1, on_nonfinite="skip")
    hooks = in_backward(optimizer, nonfinite="leaf")
    net[0].weight.register_hook(lambda grad: grad * math.nan)
    train(net, optimizer, 1)
    assert hooks.skipped == ["parameter 0"]


def test_a_second_backward_pass_is_refused_by_name():
    net = model()
    optimizer = steps.SGD(net.parameters(), lr=0.1)
    in_backward(optimizer)
    x = batches(1)[0]
    net(x).square().mean().backward()
    with pytest.raises(ValueError, match=r"second gradient of parameter .*call step"):
        net(x).square().mean().backward()
    optimizer.zero_grad()
    train(net, optimizer, 2)


def test_the_state_is_of_whole_steps():
    net = model()
    optimizer = steps.AdamW(net.parameters())
    hooks = in_backward(optimizer)
    net(batches(1)[0]).square().mean().backward()
    for look in (optimizer.state_dict, lambda: optimizer.state, lambda: pickle.dumps(optimizer)):
        with pytest.raises(RuntimeError, match="arrive one by one"):
            look()
    optimizer.step()
    assert pickle.loads(pickle.dumps(optimizer)).arriving is None
    assert optimizer.state_dict()["state"]
    hooks.remove()


def test_closures_new_groups_and_gradients_by_hand():
    nets = model(), model()
    optimizers = [steps.AdamW([net.first.weight], lr=0.1) for net in nets]
    in_backward(optimizers[1])
    for net, optimizer in zip(nets, optimizers, strict=True):

        def closure(net=net):
            loss = net(batches(1)[0]).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) > 0
        optimizer.zero_grad()
        optimizer.add_param_group({"params": [net.first.bias], "lr": 0.2})
        net.unused.grad = None
        train(net, optimizer, 3)
        optimizer.add_param_group({"params": [net.unused]})
        net.unused.grad = torch.ones(4, 2)
        net(batches(1)[0]).square().mean().backward()
        optimizer.step()
    assert same(*nets)


def test_what_is_refused():
    net = model()
    with pytest.raises(TypeError, match=r"one of stepsize\.interop\.torch, got AdamW"):
        in_backward(torch.optim.AdamW(net.parameters()))
    with pytest.raises(TypeError, match="needs the loss"):
        in_backward(steps.PolyakSGD(net.parameters()))
    optimizer = steps.AdamW(net.parameters())
    for policies, message in (
        ({"norm": "last"}, "norm must be 'exact', 'previous' or 'leaf' in"),
        ({"norm": "previous"}, "clip_norm is None"),
        ({"nonfinite": "leaf"}, 'on_nonfinite is "ignore"'),
    ):
        with pytest.raises(ValueError, match=message):
            in_backward(optimizer, **policies)
    with pytest.raises(TypeError, match="worker must be True or False"):
        in_backward(optimizer, worker=1)
    in_backward(optimizer)
    with pytest.raises(ValueError, match="in the backward pass already"):
        in_backward(optimizer)


# What goes wrong, and what is left then.


def three_layers():
    return model(lambda: torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3))))


@pytest.mark.parametrize("worker", [False, True])
def test_gradients_of_a_refused_pass_move_nothing_later(worker, monkeypatch):
    net = three_layers()
    optimizer = steps.SGD(net.parameters(), lr=0.1)
    in_backward(optimizer, worker=worker)
    take = optimizer.take

    def slow(*arguments):
        threading.Event().wait(0.02)
        take(*arguments)

    monkeypatch.setattr(optimizer, "take", slow)
    x = batches(1)[0]
    net(100 * x).square().mean().backward()
    with pytest.raises(ValueError, match="a second gradient"):
        net(100 * x).square().mean().backward()
    optimizer.zero_grad()
    before = net[0].weight.detach().clone()
    net(torch.zeros(6, 4)).square().mean().backward()  # whose gradient of the weight is 0
    optimizer.step()
    assert torch.equal(before, net[0].weight)


@pytest.mark.parametrize("worker", [False, True])
def test_a_loop_that_skips_what_fails_goes_on(worker):
    net = three_layers()
    optimizer = steps.SGD(net.parameters(), lr=0.1)
    in_backward(optimizer, worker=worker)
    failing = net[0].weight.register_hook(lambda grad: 1 / 0)
    optimizer.zero_grad()
    with pytest.raises(ZeroDivisionError):
        net(batches(1)[0]).square().mean().backward()
    failing.remove()
    with pytest.warns(UserWarning, match=r"zero_grad: \d parameters of SGD have moved already"):
        optimizer.zero_grad()
    train(net, optimizer, 2)
    assert optimizer.state_dict()


def test_a_schedule_free_rule_is_not_stepped_while_it_evaluates():
    net = three_layers()
    optimizer = steps.ScheduleFreeAdamW(net.parameters(), lr=0.1)
    in_backward(optimizer)
    train(net, optimizer, 2)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"call optimizer\.train"):
        net(batches(1)[0]).square().mean().backward()
    optimizer.zero_grad()
    optimizer.train()
    train(net, optimizer, 1)


def test_an_infinite_norm_is_followed_by_an_exact_step():
    net = three_layers()
    optimizer = steps.SGD(net.parameters(), lr=0.1, clip_norm=1.0)
    hooks = in_backward(optimizer, norm="previous")
    hooks.grad_norm = math.inf
    train(net, optimizer, 2)
    assert 0 < hooks.grad_norm < math.inf


def test_nothing_is_kept_alive():
    threads = set(threading.enumerate())
    net = three_layers()
    optimizer = steps.AdamW(net.parameters())
    found = weakref.ref(optimizer), weakref.ref(in_backward(optimizer, worker=True))
    train(net, optimizer, 1)
    del net, optimizer
    gc.collect()
    assert [it() for it in found] == [None, None]
    for _ in range(1000):
        if set(threading.enumerate()) <= threads:
            break
        threading.Event().wait(0.01)
    assert set(threading.enumerate()) <= threads


def test_two_optimizers_of_one_parameter_are_refused_by_name():
    net = three_layers()
    first, second = (steps.SGD(net.parameters(), lr=0.1) for _ in range(2))
    in_backward(first)
    in_backward(second)
    with pytest.raises(RuntimeError, match="another hook has taken the gradient of parameter"):
        net(batches(1)[0]).square().mean().backward()


def test_parameters_taken_out_of_the_groups_keep_their_gradients():
    net = three_layers()
    optimizer = steps.SGD([{"params": [p]} for p in net.parameters()], lr=0.1)
    in_backward(optimizer)
    taken = optimizer.param_groups.pop(0)["params"][0]
    net(batches(1)[0]).square().mean().backward()
    optimizer.step()
    assert taken.grad is not None
    assert net[2].weight.grad is None


def test_older_hooks_do_not_end_newer_ones():
    net = three_layers()
    optimizer = steps.SGD(net.parameters(), lr=0.1)
    old = in_backward(optimizer)
    old.remove()
    new = in_backward(optimizer)
    old.remove()
    assert optimizer.arriving is new
    train(net, optimizer, 2)
