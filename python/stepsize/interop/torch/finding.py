"""The range test on a torch model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from stepsize.finder.find import lr_find as find
from stepsize.finder.results import LRFindResult, ParameterResult
from stepsize.interop.torch.making import CLASSES
from stepsize.interop.torch.optimizer import Optimizer
from stepsize.interop.torch.places import gather
from stepsize.optimizers import Optimizer as Compiled
from stepsize.optimizers.registration import find_rule


def lr_find(
    model: torch.nn.Module,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    optimizer: Any = None,
    **settings: Any,
) -> LRFindResult | ParameterResult:
    """Suggest a learning rate for a torch model, as `stepsize.lr_find` does.

    Model (parameters, buffers, gradients), optimizer and random generators come back bit for bit,
    also when ``loss_fn`` raises.

    Args:
        model: The model in the mode in which it is to train, on the CPU.
        loss_fn: ``(model, batch) -> loss``, a tensor of one number.
        batches: An iterable of batches such as a DataLoader, or a function that returns one.
        optimizer: A class of here, of stepsize or of torch.optim, its name, a function of the
            parameters that returns an optimizer, or an optimizer, whose groups and state the
            trials start from; `AdamW` when left out.
        **settings: Those of `stepsize.lr_find`: ``lr_min``, ``steps``, ``parameter``, ...

    Raises:
        ValueError: A setting is out of range, there is no batch, or the optimizer is of a rule
            that is not compiled here.

    Example:
        >>> import torch
        >>> from stepsize.interop.torch import SGD, lr_find
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Linear(3, 1)
        >>> def loss_fn(model, batch):
        ...     return ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()
        >>> result = lr_find(model, loss_fn, [x], optimizer=SGD)
        >>> 0.03 < result.suggestion < 3
        True
    """
    _check_function(loss_fn, batches)
    made = _optimizer(model, optimizer)
    with _kept(model, made, batches):
        function = _Function(model, loss_fn, made)
        found = find(function, function.start(), batches, optimizer=function.build, **settings)
    result: LRFindResult | ParameterResult = found
    return dataclasses.replace(result, call=_call(result, made))


def _check_function(loss_fn: Any, batches: Any) -> None:
    """Refuse a loss of outputs and targets, as other finders take it, and swapped arguments."""
    name = type(loss_fn).__name__ if isinstance(loss_fn, torch.nn.Module) else ""
    if str(getattr(loss_fn, "__module__", "")).startswith("torch.nn"):
        name = name or getattr(loss_fn, "__name__", type(loss_fn).__name__)
        raise TypeError(
            f"lr_find: loss_fn={name} takes outputs and targets, expected a function of model and "
            "batch; write lambda model, batch: loss(model(batch[0]), batch[1])"
        )
    if not callable(loss_fn):
        raise TypeError(
            f"lr_find: loss_fn is a {type(loss_fn).__name__}, expected a function of model and "
            "batch, such as lambda model, batch: loss(model(batch[0]), batch[1]); the order is "
            "lr_find(model, loss_fn, batches)"
        )
    if isinstance(batches, torch.nn.Module):
        raise TypeError(
            f"lr_find: batches is a {type(batches).__name__}, expected batches such as a "
            "DataLoader; the order is lr_find(model, loss_fn, batches)"
        )


def _call(result: LRFindResult | ParameterResult, made: Optimizer) -> str:
    """The line to paste, for torch; with groups it sets what was found in each."""
    if len(made.param_groups) < 2:
        call = result.call.replace(", on_nonfinite='ignore'", "")  # as in torch, by default
        return call.replace("ss.", "", 1).replace("(params,", "(model.parameters(),", 1)
    rates = [float(group["lr"]) for group in made.param_groups]
    top = max(rates)
    lr = f"{result.lr:.1e}" if isinstance(result, ParameterResult) else "{0}"
    each = [lr if rate == top or not top else f"{rate / top:.6g} * {lr}" for rate in rates]
    line = f'for group, lr in zip(optimizer.param_groups, ({", ".join(each)})): group["lr"] = lr'
    names = [n for n in made.param_groups[0] if n not in ("params", "lr")]
    own = [n for n in names if len({repr(group.get(n)) for group in made.param_groups}) > 1]
    told = ", ".join(f"{n}={tuple(group[n] for group in made.param_groups)}" for n in own)
    if isinstance(result, ParameterResult):
        value = f"{result.suggestion:.4g}"
        if result.parameter == "batch_size":
            return f"batch_size = {value}    # {line}"
        name, new = result.parameter, value
        if name not in names:
            name, new = "betas", f'({value}, *group["betas"][1:])'
        line += f'; group["{name}"] = {new}'
    return f"{line}  # groups: {told}" if told else line


def _optimizer(model: torch.nn.Module, given: Any) -> Optimizer:
    """An optimizer of here with the groups and the state of what was given."""
    given = CLASSES["AdamW"] if given is None else given
    if isinstance(given, str):
        rule = find_rule(given, "lr_find", "optimizer")
        if rule.__name__ not in CLASSES:
            raise ValueError(
                f"lr_find: {rule.__name__} takes a function at each step, which needs no rate to "
                f"be found; choose one of {', '.join(CLASSES)}"
            )
        given = CLASSES[rule.__name__]
    if isinstance(given, type):  # one for NumPy arrays stands for that of its name here
        given = CLASSES.get(given.__name__, given) if issubclass(given, Compiled) else given
    if callable(given):
        given = given([p for p in model.parameters() if p.requires_grad])
    if isinstance(given, Optimizer):
        return given
    cls = CLASSES.get(type(given).__name__)
    if cls is None or not isinstance(given, torch.optim.Optimizer):
        raise ValueError(
            f"lr_find: optimizer must be a torch optimizer of one of the rules "
            f"{', '.join(CLASSES)}, got {type(given).__name__}; choose the nearest of these"
        )
    made = cls([{"params": group["params"]} for group in given.param_groups])
    made.load_state_dict(given.state_dict())
    return made


class _Function:
    """Loss and gradients of the model at parameters of any trial."""

    def __init__(self, model: torch.nn.Module, loss_fn: Any, optimizer: Optimizer) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._name = type(optimizer).__name__
        self._places = optimizer.places()
        self.build = optimizer.over

    def start(self) -> list[Any]:
        """Copies of the parameters' numbers."""
        return [np.array(place.array) for place in self._places]

    def __call__(self, params: list[Any], batch: Any) -> tuple[float, list[Any]]:
        for place, array in zip(self._places, params, strict=True):
            place.write(array)
        with torch.enable_grad():
            loss = self._loss_fn(self._model, batch)
        wanted = [place.tensor for place in self._places if place.tensor.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        grads = [next(found) if place.tensor.requires_grad else None for place in self._places]
        ready = [
            None if grad is None else place.gradient(grad)
            for place, grad in zip(self._places, grads, strict=True)
        ]
        return loss.item(), gather(self._name, self._places, ready)


@contextmanager
def _kept(model: torch.nn.Module, optimizer: Optimizer, batches: Any) -> Iterator[None]:
    """Put back parameters, buffers and torch's generators."""
    held = [*model.parameters(), *model.buffers(), *(p.tensor for p in optimizer.places())]
    before = [(tensor, tensor.detach().clone()) for tensor in held]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    sources = [getattr(batches, "generator", None), getattr(batches, "sampler", None)]
    found = [getattr(source, "generator", source) for source in sources]
    generators = [torch.default_generator, *(g for g in found if isinstance(g, torch.Generator))]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, named in buffers:
                module._buffers.update(named)
            for tensor, value in before:
                tensor.copy_(value)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
