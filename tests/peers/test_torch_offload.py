"""Parameters on a device and their optimizer on the CPU: bits, order and overlap."""

import copy
import math
import queue
import threading

import ml_dtypes
import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as steps
from stepsize.interop.torch import Offload
from stepsize.interop.torch.offload import Immediate
from together import alike, together

PLAIN = {"on_nonfinite": "ignore"}
WAIT = 30  # seconds, after which a test fails that would hang


def model(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3), torch.nn.Linear(3, 2)
    ).to(dtype)


def batches(count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(5, 4, generator=generator) for _ in range(count)]
    return [x.to(dtype) for x in made]


def train(net, optimizer, xs):
    for x in xs:
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(net):
    return [p.detach().view(torch.uint8).numpy().tobytes() for p in net.parameters()]


class Slow(Immediate):
    """A device whose copies are made by a thread for each direction, in their order."""

    def __init__(self):
        self.log, self.gates = [], {}
        self._queues = queue.Queue(), queue.Queue()
        for tasks in self._queues:
            threading.Thread(target=self._run, args=(tasks,), daemon=True).start()

    def _run(self, tasks):
        while True:
            number, target, source, back, done = tasks.get()
            gate = self.gates.get((number, back))
            assert gate is None or gate.wait(WAIT)
            target.copy_(source)
            self.log.append((number, back))
            done.set()

    def start(self, target, source, *, back):
        done = threading.Event()
        number = source.numel()  # of parameters of different sizes
        self._queues[back].put((number, target, source, back, done))
        return done

    def wait(self, started):
        assert started.wait(WAIT)


@together("transfers", [Immediate, Slow], lambda cls: cls.__name__)
def test_full_precision_has_the_bits_of_the_plain_loop(transfers):
    for rule, keywords in (
        ("AdamW", {"lr": 0.1, **PLAIN}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "clip_norm": 0.05, **PLAIN}),
        ("Adam", {"lr": 0.1, "on_nonfinite": "skip"}),
        ("Prodigy", PLAIN),
    ):
        here, there = model(), model()
        plain = getattr(steps, rule)(here.parameters(), **keywords)
        # torch's defaults are those of torch; ours are the classes' own.
        ours = {name: plain.defaults[name] for name in getattr(ss, rule).fields}
        offload = Offload(
            there.named_parameters(),
            getattr(ss, rule),
            transfers=transfers(),
            **{**ours, **{k: v for k, v in keywords.items() if k not in ours}},
        )
        train(here, plain, batches(4))
        train(there, offload, batches(4))
        assert bits(here) == bits(there)
        assert offload.optimizer.step_count == 4


@together("dtype", [torch.bfloat16, torch.float16], alike)
def test_half_precision_has_the_bits_of_masters_on_the_cpu(dtype):
    net, twin = model(dtype), model(dtype)
    offload = Offload(net.named_parameters(), ss.AdamW, lr=0.01, transfers=Slow(), **PLAIN)
    name = ml_dtypes.bfloat16 if dtype == torch.bfloat16 else np.float16
    arrays = {
        key: p.detach().view(torch.int16).numpy().view(name) for key, p in twin.named_parameters()
    }
    alone = ss.AdamW(arrays, lr=0.01, **PLAIN)
    for x in batches(5, dtype):
        net(x).square().mean().backward()
        offload.step()
        twin(x).square().mean().backward()
        alone.step(
            {k: p.grad.view(torch.int16).numpy().view(name) for k, p in twin.named_parameters()}
        )
        twin.zero_grad()
        assert bits(net) == bits(twin)


def test_a_parameter_is_back_while_the_backward_pass_goes_on():
    net, slow = model(), Slow()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, transfers=slow, **PLAIN)
    last = net[3].weight
    before = last.detach().clone()
    back = []

    def first_layer(grad):
        for _ in range(WAIT * 100):
            if (last.numel(), True) in slow.log:
                break
            threading.Event().wait(0.01)
        back.append(not torch.equal(last, before))

    net[0].weight.register_hook(first_layer)
    train(net, offload, batches(1))
    assert back == [True]


def test_copies_of_both_directions_run_beside_each_other():
    net, slow = model(), Slow()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, transfers=slow, **PLAIN)
    first, last = net[0].weight.numel(), net[3].weight.numel()
    # The first parameter to be back is held until the last gradient has arrived, and that one
    # until the step of the first is made.
    slow.gates[last, True] = arrived = threading.Event()
    slow.gates[first, False] = stepped = threading.Event()
    take = offload.take

    def watched(step, i, given):
        take(step, i, given)
        if offload.tensors[i].numel() == last:
            stepped.set()
        if offload.tensors[i].numel() == first:
            arrived.set()

    offload.take = watched
    train(net, offload, batches(1))
    assert slow.log.index((first, False)) < slow.log.index((last, True))


@together("rule", [ss.AdamW, ss.SGD, ss.Lion, ss.Muon], lambda cls: cls.__name__)
def test_a_run_goes_on_bit_for_bit(rule):
    keywords = {"clip_norm": 0.05, **PLAIN}

    def made(net):
        named = [(k, p) for k, p in net.named_parameters() if rule is not ss.Muon or p.ndim == 2]
        return Offload(named, rule, lr=0.01, norm="previous", **keywords)

    xs = batches(6, torch.bfloat16)
    net = model(torch.bfloat16)
    train(net, made(net), xs)

    half = model(torch.bfloat16)
    offload = made(half)
    train(half, offload, xs[:3])
    saved = copy.deepcopy((half.state_dict(), offload.state_dict()))
    later = model(torch.bfloat16)
    offload = made(later)
    later.load_state_dict(saved[0])
    offload.load_state_dict(saved[1])
    train(later, offload, xs[3:])
    assert bits(later) == bits(net)


def test_what_others_write_is_followed():
    net, twin = model(), model()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, momentum=0.9, **PLAIN)
    plain = steps.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for each, optimizer in ((net, offload), (twin, plain)):
        train(each, optimizer, batches(2))
        with torch.no_grad():
            each[0].weight.mul_(2)
        each[2].bias.data = torch.ones(3)
        train(each, optimizer, batches(2))
    assert bits(net) == bits(twin)


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_gradients_that_are_not_finite(policy):
    net = model()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, transfers=Slow(), on_nonfinite=policy)
    assert "not finite" in offload.waits
    before = bits(net)
    hook = net[0].weight.register_hook(lambda grad: grad * math.nan)
    net(batches(1)[0]).square().mean().backward()
    if policy == "raise":
        with pytest.raises(ss.NonFiniteGradientError, match=r"gradient of 0\.weight holds NaN"):
            offload.step()
    else:
        offload.step()
    assert bits(net) == before
    assert offload.optimizer.step_count == 0
    hook.remove()
    train(net, offload, batches(1))
    assert bits(net) != before


def test_rules_that_need_the_loss():
    net, twin = model(), model()
    offload = Offload(net.named_parameters(), ss.PolyakSGD, **PLAIN)
    plain = steps.PolyakSGD(twin.parameters())
    for each, optimizer in ((net, offload), (twin, plain)):
        for x in batches(3):
            loss = each(x).square().mean()
            loss.backward()
            optimizer.step(loss=loss)
            optimizer.zero_grad()
    assert bits(net) == bits(twin)


def test_a_second_backward_pass_and_the_end():
    net = model()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, **PLAIN)
    net(batches(1)[0]).square().mean().backward()
    with pytest.raises(ValueError, match="a second gradient of 3"):
        net(batches(1)[0]).square().mean().backward()
    offload.remove()
    net(batches(1)[0]).square().mean().backward()
    assert net[0].weight.grad is not None
    with pytest.raises(RuntimeError, match="hooks were removed"):
        offload.step()


@pytest.mark.parametrize(
    ("params", "rule", "error", "message"),
    [
        (lambda net: net.parameters(), "AdamW", TypeError, "rule must be a class of stepsize"),
        (lambda net: net.parameters(), ss.LBFGS, TypeError, "takes the function value_and_grad"),
        (lambda net: [], ss.AdamW, ValueError, "holds no tensors"),
        (lambda net: dict(net.named_parameters()), ss.AdamW, TypeError, "got dict"),
        (lambda net: [net[0].weight] * 2, ss.AdamW, ValueError, "occurs twice"),
        (lambda net: [1.0], ss.AdamW, TypeError, "got 1.0 at place 0"),
        (lambda net: [torch.ones(2, dtype=torch.int32)], ss.AdamW, TypeError, "0 is torch.int32"),
        (
            lambda net: [torch.ones(2), torch.ones(2, device="meta")],
            ss.AdamW,
            ValueError,
            "1 is on the device meta and 0 on cpu",
        ),
    ],
)
def test_what_is_refused(params, rule, error, message):
    with pytest.raises(error, match=message):
        Offload(params(model()), rule)


def test_what_is_written_through_data_is_read_again_when_asked():
    net = model(torch.bfloat16)
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.0, **PLAIN)
    net[0].weight.data.fill_(0.5)  # before the first step
    train(net, offload, batches(1, torch.bfloat16))
    assert torch.equal(net[0].weight, torch.full_like(net[0].weight, 0.5))
    net[0].weight.data.fill_(0.25)
    offload.refresh()
    train(net, offload, batches(1, torch.bfloat16))
    assert torch.equal(net[0].weight, torch.full_like(net[0].weight, 0.25))


def test_an_ordinary_loop_runs_and_skips_what_fails():
    net, twin = model(), model()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, transfers=Slow())
    plain = steps.SGD(twin.parameters(), lr=0.1)
    for each, optimizer in ((net, offload), (twin, plain)):
        failing = each[0].weight.register_hook(lambda grad: 1 / 0)
        optimizer.zero_grad(set_to_none=True)
        with pytest.raises(ZeroDivisionError):
            each(batches(1)[0]).square().mean().backward()
        failing.remove()
        optimizer.zero_grad(set_to_none=False)
        train(each, optimizer, batches(3))
    assert bits(net) == bits(twin)


def test_the_end_and_copies():
    net = model()
    offload = Offload(net.named_parameters(), ss.SGD, lr=0.1, clip_norm=1.0, norm="previous")
    train(net, offload, batches(2))
    norm = offload.grad_norm
    offload.remove()
    offload.remove()
    assert offload.state_dict()["grad_norm"] == norm > 0
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.deepcopy(offload)
    other = Offload(net.named_parameters(), ss.SGD, lr=0.1, **PLAIN)
    net.double()
    with pytest.raises(TypeError, match=r"0\.weight was torch\.float32 .* and is torch\.float64"):
        train(net, other, [x.double() for x in batches(1)])
