"""Wrappers of trainers, which take the class of what they wrap."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Found = TypeVar("Found")
MARK = "_chosen"  # what an optimizer of here has from its constructor, and no wrapper of it


def wrapped(optimizer: Any) -> Any:
    """The optimizer itself, or the one of here that it wraps.

    Lightning and Fabric wrap an optimizer in an object of a class that is made a subclass of the
    optimizer's, without a call of its constructor: methods that the wrapper does not define run
    with the wrapper as ``self``, and what they set on it the optimizer never sees.
    """
    found = optimizer
    while found is not None and MARK not in vars(found):
        inner = [each for each in vars(found).values() if isinstance(each, torch.optim.Optimizer)]
        found = inner[0] if inner else None
    return optimizer if found is None else found


def of_wrapped(method: Callable[Given, Found]) -> Callable[Given, Found]:
    """A method that works on the optimizer where it is called on a wrapper."""

    @functools.wraps(method)
    def called(*args: Given.args, **keywords: Given.kwargs) -> Found:
        itself: Any = (wrapped(args[0]), *args[1:])
        return method(*itself, **keywords)

    return called
