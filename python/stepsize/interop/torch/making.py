"""The classes: one for each rule, made from the registry."""

from __future__ import annotations

from typing import Any

from stepsize.interop.torch.arguments import signature, torch_class
from stepsize.interop.torch.averaging import AveragingOptimizer, TwoPointOptimizer
from stepsize.interop.torch.optimizer import Optimizer
from stepsize.optimizers import registry
from stepsize.optimizers.optimizer import Optimizer as Rule


def _make(rule: type[Rule]) -> type[Optimizer]:
    base = Optimizer
    if hasattr(rule, "averaged"):
        base = TwoPointOptimizer if torch_class(rule) is None else AveragingOptimizer
    contents: dict[str, Any] = {
        "rule": rule,
        "__signature__": signature(rule),
        "__module__": "stepsize.interop.torch",  # where pickle looks
        "__doc__": _doc(rule),
    }
    return type(rule.__name__, (base,), contents)


def _doc(rule: type[Rule]) -> str:
    what, _, _ = (rule.__doc__ or "").partition("Args:")
    name = rule.__name__
    if torch_class(rule) is None:
        how = f"Arguments as `stepsize.{name}`'s"
    else:
        how = f"Arguments, groups and state as torch.optim.{name}'s"
    return (
        f"{what.rstrip()}\n\n    {how}, and ``clip_norm``, ``clip_value``,\n"
        '    ``state_dtype`` (None or "bfloat16") and ``on_nonfinite`` ("ignore", as in torch).'
        "\n    "
    )


CLASSES = {rule.__name__: _make(rule) for rule in registry() if not rule.needs_closure}
