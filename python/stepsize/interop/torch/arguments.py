"""What the classes are called with: torch's arguments first, then ours."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stepsize.arrays import Array
from stepsize.optimizers import loop
from stepsize.optimizers.constraints import Constraints
from stepsize.optimizers.groups import check_values
from stepsize.optimizers.half import inward
from stepsize.optimizers.optimizer import Optimizer as Rule
from stepsize.optimizers.options import Options

# Words of torch's that choose an implementation, and what they may say of this one.
IMPLEMENTATIONS: dict[str, tuple[Any, ...]] = {
    "foreach": (None, False, True),
    "fused": (None, False, True),
    "capturable": (False,),
    "differentiable": (False,),
}
OPTIONS = {
    "clip_norm": None,
    "clip_value": None,
    "on_nonfinite": "ignore",
    "state_dtype": None,
    "bounds": None,
    "l1": 0.0,
}


def options_of(rule: type[Rule]) -> dict[str, Any]:
    """The options of a rule's class with their defaults; the rule's own arguments go first."""
    return {name: default for name, default in OPTIONS.items() if name not in rule.fields}


def torch_class(rule: type[Rule]) -> Any:
    """The class of the same name in torch.optim, or None."""
    return getattr(torch.optim, rule.__name__, None)


def signature(rule: type[Rule]) -> inspect.Signature:
    """Torch's arguments in torch's order where it has the class; ours follow as keywords."""
    kinds = inspect.Parameter
    fields = {name: field.default for name, field in rule.fields.items()}
    if torch_class(rule) is not None:
        listed = list(inspect.signature(torch_class(rule)).parameters.values())
        listed = [each.replace(annotation=kinds.empty) for each in listed]
    else:
        listed = [
            kinds("params", kinds.POSITIONAL_OR_KEYWORD),
            kinds("lr", kinds.POSITIONAL_OR_KEYWORD, default=fields["lr"]),
        ]
    known = {each.name for each in listed}
    ours = {**fields, "maximize": False, **options_of(rule)}
    listed += [
        kinds(name, kinds.KEYWORD_ONLY, default=default)
        for name, default in ours.items()
        if name not in known
    ]
    return inspect.Signature(listed)


def bind(owner: str, called: inspect.Signature, args: Any, keywords: Any) -> dict[str, Any]:
    """The arguments by name, with defaults."""
    try:
        bound = called.bind(*args, **keywords)
    except TypeError as error:
        raise TypeError(f"{owner}: {error}; it takes {', '.join(called.parameters)}") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def table(rule: type[Rule], owner: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """The rule's hyperparameters of a group as plain numbers, checked."""
    for word, allowed in IMPLEMENTATIONS.items():
        if word in group and not any(group[word] is value for value in allowed):
            raise ValueError(
                f"{owner}: {word}={group[word]!r} is not possible in a compiled step on the CPU; "
                f"leave it out, or use torch.optim.{rule.__name__}"
            )
    given = {
        name: filled(plain(group[name], f"{owner}: {name}"), field.default)
        for name, field in rule.fields.items()
    }
    for name, value in given.items():
        members = value if isinstance(value, tuple) else (value,)
        if any(callable(member) for member in members):
            raise TypeError(
                f"{owner}: {name} must be numbers here, got {value!r:.80}; a torch optimizer "
                "follows a "
                "schedule by ScheduleLR(optimizer, schedule)"
            )
    values = check_values(rule.fields, owner, given)
    loop.check(rule, values)
    return values


def plain(value: Any, label: str = "the loss") -> Any:
    """A value of a group without tensors in it."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"{label} must be one number, got a tensor of shape {tuple(value.shape)}; "
                "parameters with a value of their own are a group of their own"
            )
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(plain(member, label) for member in value)
    return value


def filled(value: Any, default: Any) -> Any:
    """A value without None, which stands for the default in torch."""
    if isinstance(value, tuple) and isinstance(default, tuple) and len(value) == len(default):
        return tuple(filled(*pair) for pair in zip(value, default, strict=True))
    return default if value is None else value


def options(owner: str, chosen: Mapping[str, Any], groups: Any) -> Options:
    """Clipping and its like, which hold for all groups together, checked."""
    maximize = {bool(group["maximize"]) for group in groups}
    if len(maximize) > 1:
        raise ValueError(
            f"{owner}: maximize must be the same in all groups, got both; make two optimizers"
        )
    if chosen["state_dtype"] not in (None, "bfloat16"):
        raise ValueError(
            f"{owner}: state_dtype must be None or 'bfloat16' for tensors, got "
            f"{chosen['state_dtype']!r}"
        )
    return Options.take(owner, {**chosen, "maximize": maximize.pop()})[0]


def held_in(options: Options, dtypes: Sequence[torch.dtype]) -> Options:
    """The options with bounds that tensors of these dtypes can hold, each on its inner side."""
    if options.bounds is None:
        return options
    found = [
        one
        if one is None or dtype.itemsize > 2
        else one._replace(low=_inward(one.low, dtype, 1), high=_inward(one.high, dtype, -1))
        for one, dtype in zip(options.bounds.by_leaf, dtypes, strict=True)
    ]
    return dataclasses.replace(options, bounds=Constraints(found))


def _inward(side: Array, dtype: torch.dtype, towards: int) -> Array:
    return inward(side, str(dtype).removeprefix("torch."), towards).astype(side.dtype)
