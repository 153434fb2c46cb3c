"""Schedules as Python expressions and as JSON."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from stepsize.schedules.schedule import RECIPES, Schedule

ATOM, TERM, SUM = 2, 1, 0  # how tightly an expression binds: a call, a product, a sum
OPERATORS = {"scale": TERM, "product": TERM, "sum": SUM}
METHODS = {"clip", "shift", "warmup", "repeat", "stretch", "resume_at", "by_epoch"}


def expression(schedule: Schedule) -> str:
    """The call that made the schedule; evaluating it makes an equal one."""
    arguments = schedule.arguments
    if schedule.name == "then":
        first, *rest = zip(arguments["pieces"], arguments["starts"], strict=True)
        return bound(first[0], ATOM) + "".join(f".then({p!r}, at={s!r})" for p, s in rest)
    if schedule.name == "scale":
        return f"{bound(arguments['schedule'], TERM)} * {arguments['factor']!r}"
    if schedule.name == "product":
        return f"{bound(arguments['left'], TERM)} * {bound(arguments['right'], ATOM)}"
    if schedule.name == "sum":
        return f"{bound(arguments['left'], SUM)} + {bound(arguments['right'], TERM)}"
    if schedule.name in METHODS:
        inner = bound(arguments.pop("schedule"), ATOM)
        return f"{inner}.{schedule.name}({call_text(schedule.name, arguments)})"
    return f"{schedule.name}({call_text(schedule.name, arguments)})"


def bound(schedule: Schedule, tightness: int) -> str:
    """The expression, in parentheses where it would otherwise fall apart."""
    text = expression(schedule)
    return text if OPERATORS.get(schedule.name, ATOM) >= tightness else f"({text})"


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Required arguments by position, the others by name where they are not the default."""
    signature: inspect.Signature = RECIPES[name].signature  # type: ignore[attr-defined]
    shown = []
    for key, value in arguments.items():
        default = signature.parameters[key].default
        if default is inspect.Parameter.empty:
            shown.append(value_text(value))
        elif value != default:
            shown.append(f"{key}={value_text(value)}")
    return ", ".join(shown)


def value_text(value: Any) -> str:
    """An argument as Python text."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    path = import_path(value) if callable(value) and not isinstance(value, Schedule) else None
    return repr(value if path is None else path)


def import_path(function: Callable[..., Any]) -> str | None:
    """`module:name` where that leads back to the function, else None."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else None


def to_plain(value: Any) -> Any:
    """A schedule or one of its arguments as JSON."""
    if isinstance(value, Schedule):
        arguments = {key: to_plain(item) for key, item in value.arguments.items()}
        return {"name": value.name, "arguments": arguments}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if callable(value):
        path = import_path(value)
        if path is None:
            raise ValueError(
                f"Schedule.to_dict: {value!r} cannot be saved, no import path leads to it; define "
                "it with def at the top of a module, or use ss.schedules.table(s.values(n))"
            )
        return path
    return value


def from_plain(value: Any) -> Any:
    """What `to_plain` wrote."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    name, arguments = value.get("name"), value.get("arguments")
    if name not in RECIPES or not isinstance(arguments, Mapping):
        known = ", ".join(sorted(RECIPES))
        raise ValueError(f"Schedule.from_dict: {name!r} is not a schedule; known are {known}")
    return RECIPES[name](**{key: from_plain(item) for key, item in arguments.items()})
