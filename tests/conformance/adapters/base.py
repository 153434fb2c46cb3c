"""What an adapter is: a library's rules and schedules under neutral names, and how they run."""

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cases import Numbers


class Unsupported(Exception):
    """The library has no such option; this is not a failure."""


@dataclass(frozen=True)
class Binding:
    """A library's name for a rule or schedule, and what its documentation says it computes.

    `arguments` are the library's, each from a neutral name or a function of the neutral numbers;
    `fixed` are numbers that it cannot be told. `documented` are the choices that its documentation
    or the comments of its source state where they are not the source's; `where` names the place.
    """

    name: str
    arguments: dict[str, str | Callable[..., Any]]
    documented: dict[str, str] = field(default_factory=dict)
    where: str = ""
    fixed: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float64"  # what it computes in, whatever it is given
    without: tuple[str, ...] = ()  # kinds of cases that it cannot be driven through
    shapes: tuple[tuple[int, ...], ...] | None = None  # of leaves, where size decides what runs

    def given(self, n):
        return {key: get(n) if callable(get) else n[get] for key, get in self.arguments.items()}


def of(
    name,
    documented=None,
    where="",
    fixed=None,
    dtype="float64",
    without=(),
    shapes=None,
    **arguments,
):
    """A binding, its arguments given by keyword."""
    return Binding(name, arguments, documented or {}, where, fixed or {}, dtype, without, shapes)


def both(n):
    return n.beta1, n.beta2


def always(value):
    """An argument that is the same in every case."""
    return lambda n: value


DECAYED = {"lr": "lr", "weight_decay": "weight_decay"}
ADAM = {**DECAYED, "betas": both, "eps": "eps"}


class Adapter:
    """A library: its distribution, its bindings, and how its optimizers are stepped."""

    distribution = module = ""
    rules: dict[str, Binding] = {}  # noqa: RUF012
    schedules: dict[str, Binding] = {}  # noqa: RUF012

    def find(self, name):
        """What a binding names, below the module."""
        found = importlib.import_module(self.module)
        for part in name.split("(")[0].split("."):
            found = getattr(found, part)
        return found

    def version(self):
        return importlib.metadata.version(self.distribution).split("+")[0]

    def numbers(self, binding, case):
        """The case's neutral numbers as this binding can be given them."""
        for name, value in binding.fixed.items():
            if case.numbers.get(name, value) != value:
                raise Unsupported(f"{name} is {value} in {binding.name}")
        if case.kind in binding.without:
            raise Unsupported(f"{binding.name} cannot be driven through this")
        return Numbers(case.all_numbers | binding.fixed)

    def checked(self, binding, numbers):
        for name, value in numbers.values.items():
            if value and name not in numbers.read and name not in binding.fixed:
                raise Unsupported(f"{binding.name} has no {name}")

    def trajectory(self, binding, case):
        """The leaves after each step, as NumPy arrays; raises `Unsupported`."""
        raise NotImplementedError

    def values(self, binding, arguments, numbers, steps):
        """A schedule's value before each of `steps` updates, or of those that it allows."""
        raise NotImplementedError


class TorchLike(Adapter):
    """Optimizers with the interface of `torch.optim.Optimizer`."""

    def trajectory(self, binding, case):
        import torch

        numbers = self.numbers(binding, case)
        dtype = torch.float64 if binding.dtype != "float32" else torch.float32
        params = [torch.nn.Parameter(torch.tensor(x, dtype=dtype)) for x in case.x0()]
        arguments = binding.given(numbers)
        self.checked(binding, numbers)
        optimizer = self.made(binding, params, arguments)
        rates = [group["lr"] for group in optimizer.param_groups] if "lr" in numbers.values else []
        return [self.step(optimizer, params, case, t, rates) for t in range(case.steps)]

    def made(self, binding, params, arguments):
        return self.find(binding.name)(params, **arguments)

    def values(self, binding, arguments, numbers, steps):
        import torch

        first = arguments.pop("lr", 0.25)
        shown = "momentum" if "base_momentum" in arguments else "lr"
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=first, momentum=0.5)
        scheduler = self.scheduler(binding, optimizer, arguments)
        found = []
        for t in range(steps):
            found.append(float(optimizer.param_groups[0][shown]))
            optimizer.step()
            try:
                self.advance(scheduler, t)
            except ValueError:  # past its end
                break
        return found

    def scheduler(self, binding, optimizer, arguments):
        return self.find(binding.name)(optimizer, **arguments)

    def advance(self, scheduler, t):
        scheduler.step()

    def step(self, optimizer, params, case, t, rates):
        import torch

        if case.kind == "moving rate":
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * case.rate(t)

        def closure():
            for k, p in enumerate(params):
                g = case.gradient(t, k, p.detach().numpy().astype(np.float64))
                p.grad = torch.tensor(g, dtype=p.dtype).reshape(p.shape)
            return torch.tensor(case.loss(t), dtype=params[0].dtype)

        if case.kind == "quadratic":
            optimizer.step(closure)
        else:
            self.apply(optimizer, closure())
        return [p.detach().numpy().astype(np.float64).copy() for p in params]

    def apply(self, optimizer, loss):
        optimizer.step()
