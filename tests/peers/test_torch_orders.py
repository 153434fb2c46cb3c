"""Optimizer, its state, a scheduler and its state: made and loaded in every order."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch

import stepsize as ss
from stepsize.interop import torch as interop
from stepsize.interop.torch import ScheduleLR

SCHEDULE = ss.schedules.cosine(1.0, 0.1, 10)  # times an initial rate of 1, for LambdaLR
STEPS = 4
MAKERS = {
    "torch": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.9),
    "ours": lambda p, lr: interop.SGD([p], lr=lr, momentum=0.9),
    "torch with a tensor": lambda p, lr: torch.optim.SGD([p], lr=torch.tensor(lr), momentum=0.9),
}
SCHEDULERS = {
    "ScheduleLR": lambda opt: ScheduleLR(opt, SCHEDULE),
    "list": lambda opt: ScheduleLR(opt, [SCHEDULE]),
    "LambdaLR": lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda t: SCHEDULE(t)),
}
CUTTERS = {
    "none": lambda opt: None,
    "torch": lambda opt: torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0, factor=0.5),
    "Plateau": lambda opt: ss.Plateau(opt, patience=0, factor=0.5),
    "Greedy": lambda opt: ss.schedules.Greedy(opt, patience=0, factor=0.5),
}
ORDERS = [
    order
    for order in itertools.permutations(["optimizer", "make", "scheduler"])
    if order.index("make") < order.index("scheduler")
]


class Run:
    """An optimizer, a scheduler and what cuts the rate on a metric."""

    def __init__(self, maker, scheduler, cutter):
        self.kinds = scheduler, cutter
        self.x = torch.nn.Parameter(torch.ones(2))
        self.optimizer = MAKERS[maker](self.x, 1.0)
        self.scheduler = self.cutter = None

    def make(self):
        scheduler, cutter = self.kinds
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.cutter = CUTTERS[cutter](self.optimizer)

    def advance(self, steps):
        """Steps; the rates, as they are used."""
        found = []
        for _ in range(steps):
            found.append(float(self.optimizer.param_groups[0]["lr"]))
            self.x.grad = torch.full((2,), 0.5)
            self.optimizer.step()
            self.scheduler.step()
        return found

    def cut(self):
        if self.cutter is not None:
            move = getattr(self.cutter, "update", None) or self.cutter.step
            move(1.0)
            move(1.0)

    def state(self):
        parts = {"optimizer": self.optimizer, "scheduler": self.scheduler, "cutter": self.cutter}
        return copy.deepcopy({k: v.state_dict() for k, v in parts.items() if v is not None})

    def load(self, what, state):
        if what == "make":
            self.make()
        elif what == "optimizer":
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        else:
            self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
            if self.cutter is not None:
                self.cutter.load_state_dict(copy.deepcopy(state["cutter"]))


def uninterrupted(maker, scheduler, cutter, before=STEPS):
    """A run, its state in the middle, and its rates from there."""
    run = Run(maker, scheduler, cutter)
    run.make()
    run.advance(before)
    run.cut()
    state, x = run.state(), run.x.detach().clone()
    return state, x, run.advance(STEPS), run.x.detach()


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("cutter", CUTTERS)
@pytest.mark.parametrize("scheduler", ["ScheduleLR", "list"])
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("before", [0, STEPS])
def test_a_resumed_run_has_the_rates_of_one_that_went_on(maker, scheduler, cutter, order, before):
    state, x, expected, end = uninterrupted(maker, scheduler, cutter, before)
    run = Run(maker, scheduler, cutter)
    with torch.no_grad():
        run.x.copy_(x)
    for what in order:
        run.load(what, state)
    assert run.scheduler.get_last_lr() == [float(g["lr"]) for g in run.optimizer.param_groups]
    found = run.advance(STEPS)
    exact = maker != "torch with a tensor"
    np.testing.assert_allclose(found, expected, rtol=1e-14 if exact else 1e-6)
    np.testing.assert_allclose(run.x.detach(), end, rtol=1e-6)


@pytest.mark.parametrize("order", [o for o in ORDERS if o[0] == "make"], ids="-".join)
@pytest.mark.parametrize("maker", ["torch", "ours"])
def test_as_torch_where_torch_is_called_as_it_asks(maker, order):
    """Its schedulers are made before the optimizer's state is loaded, or lose its rate."""
    found = []
    for scheduler in ("ScheduleLR", "LambdaLR"):
        state, _, _, _ = uninterrupted(maker, scheduler, "none")
        run = Run(maker, scheduler, "none")
        for what in order:
            run.load(what, state)
        found.append(run.advance(STEPS))
    np.testing.assert_allclose(*found, rtol=1e-14)


@pytest.mark.parametrize("maker", ["torch", "ours"])
@pytest.mark.parametrize("last", [-1, 2, STEPS - 1])
@pytest.mark.parametrize("loaded", [True, False])
def test_as_torch_from_a_last_epoch(maker, last, loaded):
    """A scheduler that is made at a step, with the optimizer's state or without."""
    state, _, _, _ = uninterrupted(maker, "ScheduleLR", "none")
    found = []
    for make in (
        lambda opt: ScheduleLR(opt, SCHEDULE, last),
        lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda t: SCHEDULE(t), last),
    ):
        run = Run(maker, "ScheduleLR", "none")
        if loaded:
            run.load("optimizer", state)
        try:
            run.scheduler = make(run.optimizer)
        except KeyError as error:
            found.append(str(error)[:40])
            continue
        found.append(run.advance(STEPS))
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        np.testing.assert_allclose(*found, rtol=1e-14)


@pytest.mark.parametrize("maker", ["torch", "ours"])
def test_a_float32_rate_is_no_factor(maker):
    """What a tensor rounds is not taken for somebody's multiplication."""
    x = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([x], lr=torch.tensor(1.0))
    scheduler = ScheduleLR(optimizer, ss.schedules.exponential(1.0, 0.7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a step of the optimizer is left out
        for _ in range(20):
            scheduler.step()
    assert scheduler.factors == [1.0]
