"""Rules by name, whatever the capitals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stepsize.arrays import Nest, flatten
from stepsize.names import nearest
from stepsize.optimizers.groups import ungroup
from stepsize.optimizers.optimizer import Optimizer, registry


def snake_case(cls: type[Optimizer]) -> str:
    """The name of a rule as a function would have it.

    Example:
        >>> import stepsize as ss
        >>> [snake_case(cls) for cls in (ss.AdamW, ss.SignSGD, ss.ScheduleFreeAdamW)]
        ['adamw', 'sign_sgd', 'schedule_free_adamw']
    """
    name = cls.__name__
    known = {other.__name__ for other in registry()}
    for end in sorted(known, key=len, reverse=True):
        start = name.removesuffix(end)
        if len(start) > 1 and start != name:
            words = start if start in known else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", start)
            return f"{words}_{end}".lower()
    return name.lower()


def maker_of(optimizer: Any, owner: str) -> Any:
    """What makes an optimizer: the class of that name, or what was given."""
    rule = isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
    if rule and "lr" not in optimizer.fields:
        raise TypeError(
            f"{owner}: optimizer must be a rule's class, its name, or a function params -> "
            f"optimizer, got the class {optimizer.__name__}, which is no rule; give a function, "
            'such as lambda params: ss.Partition({"*/w": ss.Muon, "*": ss.AdamW}, params)'
        )
    return find_rule(optimizer, owner, "optimizer") if isinstance(optimizer, str) else optimizer


def refuse_other_arrays(owner: str, optimizer: Any, params: Nest) -> None:
    """Refuse what a function ``params -> optimizer`` made over other arrays than it was given."""
    if not hasattr(optimizer, "internals"):
        return  # another package's
    given = flatten(params)[0]
    known = {id(leaf) for leaf in given}
    leaves, paths, _ = flatten(ungroup(optimizer.params))
    for path, leaf in zip(paths, leaves, strict=True):
        if id(leaf) in known or not leaf.size:
            continue
        if not any(np.may_share_memory(leaf, own) for own in given):
            raise ValueError(
                f"{owner}: the function that makes the optimizer gave one over other arrays than "
                f"the copies of the parameters that it was called with, {path} among them; write "
                f"lambda params: ss.{type(optimizer).__name__}(params, ...), or give the optimizer "
                "itself where an instance is taken"
            )


def find_rule(rule: Any, owner: str, argument: str = "rule") -> type[Optimizer]:
    """The optimizer class of that name, with or without capitals and underscores, or itself.

    Raises:
        ValueError: there is no such rule; it names the nearest ones.

    Example:
        >>> find_rule("adamw", "minimize")
        <class 'stepsize.optimizers.rules.adam.AdamW'>
    """
    if isinstance(rule, type) and issubclass(rule, Optimizer) and "lr" in rule.fields:
        return rule
    classes = {cls.__name__.lower(): cls for cls in registry()}
    if not isinstance(rule, str):
        raise TypeError(
            f"{owner}: {argument} must be the name of a rule, such as 'adam', or an optimizer "
            f"class, got {rule!r:.80}"
        )
    key = rule.lower().replace("_", "").replace("-", "")
    if key not in classes:
        near = nearest(key, classes, 3) or sorted(classes)
        names = ", ".join(repr(classes[name].__name__) for name in near)
        raise ValueError(f"{owner}: there is no {argument} {rule!r:.80}; there is {names}")
    return classes[key]
