"""Models, and what each class of torch is called with: shared by the tests of the adapter."""

import copy

import numpy as np
import torch

from stepsize.interop.torch.making import CLASSES

# Muon computes in the dtype of the parameters, torch's in bfloat16.
SHARED = [name for name in CLASSES if hasattr(torch.optim, name) and name != "Muon"]
ALL = list(CLASSES)

OPTIONS = {
    "SGD": [
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    ],
    "Adam": [{"amsgrad": True}, {"betas": (0.8, 0.9), "eps": 1e-4}],
    "AdamW": [{"amsgrad": True}, {"weight_decay": 0.0}],
    "Adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.5}],
    "RMSprop": [{"momentum": 0.9}, {"centered": True}, {"centered": True, "momentum": 0.5}],
    "ASGD": [{"t0": 3, "lambd": 0.1}],
    "NAdam": [{"decoupled_weight_decay": True, "weight_decay": 0.1}, {"momentum_decay": 0.1}],
    "RAdam": [{"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "Rprop": [{"etas": (0.4, 1.3), "step_sizes": (1e-4, 0.1)}],
}


def options(name):
    """What to call a class of torch's with, one after the other."""
    taken = CLASSES[name].__signature__.parameters
    common = [{}, {"maximize": True}, {"weight_decay": 0.1}]
    known = [each for each in common if set(each) <= set(taken)]
    return [{"lr": 0.02, **each} for each in [*known, *OPTIONS.get(name, [])]]


CASES = [(name, keywords) for name in SHARED for keywords in options(name)]


def case_id(case):
    return "-".join([case[0], *(key for key in case[1] if key != "lr")])


class Net(torch.nn.Module):
    """Convolution, normalisation, a branch without gradients at odd steps, and a scalar."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        self.often = torch.nn.Linear(16, 3)
        self.seldom = torch.nn.Linear(16, 3)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, both):
        hidden = torch.tanh(self.norm(self.conv(x))).flatten(1)
        out = self.often(hidden)
        return self.scale * (out + self.seldom(hidden) if both else out)


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def train(model, optimizer, steps, first=0, scheduler=None):
    """Some steps on batches that depend on the number of the step alone."""
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        dtype = next(model.parameters()).dtype
        x = torch.randn((8, 2, 4, 4), generator=generator).to(dtype)
        optimizer.zero_grad()
        loss = ((model(x, step % 2 == 0) - x.flatten(1)[:, :3]) ** 2).mean()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return loss.item()


def twins(name, keywords, seed=0):
    """The same model twice: under torch's class and under ours."""
    one = net(seed)
    two = copy.deepcopy(one)
    theirs = getattr(torch.optim, name)(one.parameters(), **keywords)
    ours = CLASSES[name](two.parameters(), **keywords)
    return one, theirs, two, ours


def distance(one, two):
    """The largest difference of the parameters, relative to the largest of each."""
    pairs = [
        (p.detach().numpy(), q.detach().numpy())
        for p, q in zip(one.parameters(), two.parameters(), strict=True)
    ]
    return max(np.max(np.abs(p - q)) / (np.max(np.abs(p)) or 1) for p, q in pairs)


def same(one, two):
    """Whether the parameters are the same to the bit."""
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))


def with_gradient(tensor, gradient):
    p = tensor.detach().requires_grad_()
    p.grad = gradient
    return p
