"""What a run is given that no state holds: functions, and the arguments of callbacks.

A checkpoint keeps a description of each, by which a resumed run says where it is given another.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stepsize.optimizers.optimizer import Optimizer
from stepsize.schedules import Schedule
from stepsize.serialization.functions import attributes, changes, described
from stepsize.training.run import Run, stateful

SKIPPED = {"path", "folder", "directory", "file"}  # where a callback writes changes nothing
Given = dict[str, Any]


def given(run: Run, functions: Mapping[str, Any]) -> Given:
    """Descriptions by name of what a run is given: to be saved, and compared with those saved.

    `functions` are those of `fit`; None where not given. What they hold in lists and arrays may be
    parameters or data, so it is looked at in schedules and `count` alone.
    """
    found = {
        name: described(function, containers=name == "count")
        for name, function in functions.items()
        if callable(function)
    }
    for name, function in _schedules(run.optimizer):
        found[name] = described(function)
    return {
        "functions": found,
        "callbacks": [[type(c).__name__, _arguments(c)] for c in stateful(run.callbacks)],
    }


def differences(saved: Any, here: Given) -> dict[str, str]:
    """What is given otherwise than it was, in words by name; empty for a file of before."""
    if not isinstance(saved, Mapping):
        return {}
    found: dict[str, str] = {}
    functions = saved.get("functions")
    if isinstance(functions, Mapping):
        for name, function in here["functions"].items():
            text = changes(functions.get(name), function)
            if text:
                found[name] = f"{name}={text}"
        if ("count" in functions) != ("count" in here["functions"]):
            new, old = (
                which.get("count", {"name": "None"}) for which in (here["functions"], functions)
            )
            found["count"] = f"count={new['name']} instead of {_name(old)}"
    callbacks = saved.get("callbacks")
    if isinstance(callbacks, list | tuple) and len(callbacks) == len(here["callbacks"]):
        for old, (name, arguments) in zip(callbacks, here["callbacks"], strict=True):
            pair = isinstance(old, list | tuple) and len(old) == 2
            before = old[1] if pair and isinstance(old[1], Mapping) else None
            if before is None:
                continue
            for key, value in arguments.items():
                text = _changed(before.get(key, value), value)
                if text:
                    found[f"{name}: {key}"] = f"{name}: {key}={text}"
    return found


def _name(saved: Any) -> str:
    return str(saved.get("name"))[:200] if isinstance(saved, Mapping) else "another"


def _changed(old: Any, new: Any) -> str:
    if _is_told(old) and _is_told(new):
        return changes(old, new)
    shown = [one["name"][:200] if _is_told(one) else repr(one)[:80] for one in (new, old)]
    return "" if old == new else f"{shown[0]} instead of {shown[1]}"


def _is_told(value: Any) -> bool:
    """Whether it is what `described` says of a function."""
    return isinstance(value, Mapping) and set(value) == {"name", "python", "code", "values"}


def _schedules(optimizer: Optimizer) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The Python functions among the hyperparameters, by the names that a resume gives them."""
    tables = optimizer.internals.groups.tables
    for k, table in enumerate(tables):
        where = f"group {k}: " if len(tables) > 1 else ""
        for name, value in table.items():
            held = _in(value)
            for i, function in enumerate(held):
                yield f"{where}{name}" + (f" ({i + 1})" if len(held) > 1 else ""), function


def _in(value: Any) -> list[Callable[..., Any]]:
    if isinstance(value, Schedule):
        return _in(tuple(value.arguments.values()))
    if isinstance(value, list | tuple):
        return [function for part in value for function in _in(part)]
    return [value] if callable(value) else []


def _arguments(callback: Any) -> dict[str, Any]:
    """What the constructor of a callback was given, as far as the object keeps it by that name."""
    try:
        parameters = inspect.signature(type(callback).__init__).parameters
    except (TypeError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for name, parameter in list(parameters.items())[1:]:
        kept = attributes(callback)
        value = kept.get(name, kept.get(f"_{name}"))
        if parameter.kind is parameter.VAR_KEYWORD and isinstance(value, Mapping):
            found |= {key: _kept(item) for key, item in value.items()}
        elif name not in SKIPPED and (name in kept or f"_{name}" in kept):
            found[name] = _kept(value)
    return {name: value for name, value in found.items() if value is not _UNKNOWN}


_UNKNOWN = object()


def _kept(value: Any) -> Any:
    """A value as a file holds it; `_UNKNOWN` where none can."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, list | tuple):
        parts = [_kept(item) for item in value]
        return _UNKNOWN if any(part is _UNKNOWN for part in parts) else parts
    if isinstance(value, Mapping):
        return _kept([list(pair) for pair in value.items()])
    return (
        described(value, containers=False)
        if callable(value) and not isinstance(value, type)
        else _UNKNOWN
    )
