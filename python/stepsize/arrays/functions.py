"""Functions of parameters and a batch: what can be called so, and what such a call was given."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

MOST = 4  # parts of a batch that are listed


def check_function(
    owner: str,
    function: Any,
    name: str = "value_and_grad",
    result: str = "(loss, grads)",
    of: str = "(params, batch)",
) -> None:
    """Raise a TypeError that names a function which cannot be called with these arguments.

    What says nothing of its arguments, as a function of C, is let through.

    Example:
        >>> check_function("fit", lambda params: (0.0, params))
        Traceback (most recent call last):
        TypeError: fit: value_and_grad must be a function (params, batch) -> (loss, grads), and \
<lambda> takes (params); where there is no batch, give lambda params, batch: f(params)
    """
    wanted = f"{owner}: {name} must be a function {of} -> {result}"
    if not callable(function):
        raise TypeError(f"{wanted}, got {function!r:.80}")
    try:
        # Of what is called, which may take other arguments than what it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    count = of.count(",") + 1
    if not _takes(signature, count):
        called = getattr(function, "__name__", type(function).__name__)
        empty = inspect.Parameter.empty
        names = [p.replace(annotation=empty) for p in signature.parameters.values()]
        takes = str(signature.replace(parameters=names, return_annotation=empty))
        cure = _cure("f" if called == "<lambda>" else called, signature, count)
        raise TypeError(f"{wanted}, and {called} takes {takes:.80}{cure}")


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _cure(called: str, signature: inspect.Signature, count: int) -> str:
    """What makes a function of other arguments one of these."""
    more = any(_takes(signature, count + extra) for extra in (1, 2, 3))
    if count == 1:
        return f"; give the others beforehand, lambda x: {called}(x, ...)" if more else ""
    if _takes(signature, 1):
        return f"; where there is no batch, give lambda params, batch: {called}(params)"
    if more:
        return f"; where a batch has parts, give lambda params, batch: {called}(params, *batch)"
    return ""


def batch_in_words(batch: Any) -> str:
    """What a function got as its batch, and what to give where that is not one batch.

    Example:
        >>> batch_in_words((np.ones((32, 6)), np.ones(32)))
        'a tuple of an array (32, 6), an array (32,)'
        >>> batch_in_words([(np.ones(2), 1), (np.ones(2), 0)])
        'a list of a tuple of 2, a tuple of 2; if these are batches, give one, batch[0]'
    """
    found = _in_words(batch)
    if batch is None:
        return f"{found}, since none was given: give it after params"
    if hasattr(batch, "__next__"):
        return f"{found}: give one batch of it, next(batch)"
    if isinstance(batch, list | tuple) and batch:
        parts = ", ".join([_in_words(part) for part in batch[:MOST]])
        found = f"a {type(batch).__name__} of {parts}{', ...' if len(batch) > MOST else ''}"
        if all(isinstance(part, list | tuple | dict) for part in batch):
            return f"{found}; if these are batches, give one, batch[0]"
        return found
    if hasattr(batch, "__iter__") and not hasattr(batch, "__getitem__"):
        return f"{found}: give one batch of it, next(iter(batch))"
    return found


def _in_words(part: Any) -> str:
    if isinstance(part, np.ndarray):
        return f"an array {part.shape}"
    if part is None:
        return "None"
    size = f" of {len(part)}" if isinstance(part, list | tuple | dict) else ""
    name = type(part).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}{size}"
