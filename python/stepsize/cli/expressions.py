"""Schedules written as text, like `cosine(0.1, 0, 2000)`, read without running code."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable
from typing import Any

from stepsize import schedules

__all__ = ["parse_schedule", "recipes"]

_METHODS = ("clip", "repeat", "resume_at", "shift", "stretch", "then", "warmup")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def recipes() -> dict[str, Callable[..., Any]]:
    """The functions of `ss.schedules` that an expression may call, by name."""
    found = {name: getattr(schedules, name) for name in schedules.__all__}
    # A class is no recipe, and functions, parameters and schedules in use cannot be written here.
    others = ("check_run", "from_function", "layerwise_lr")
    return {
        name: value
        for name, value in sorted(found.items())
        if callable(value) and not isinstance(value, type) and name not in others
    }


def parse_schedule(text: str) -> Any:
    """The schedule that `text` describes, or a constant one where it is a number.

    Allowed are the recipes of `ss.schedules`, numbers, strings, lists, tuples, keyword arguments,
    `+ - * /` and the methods of a schedule; nothing else is evaluated.
    Raises ValueError saying which part is not understood.

    >>> parse_schedule("0.5 * linear(0.2, 0.0, 10)")(5)
    0.05
    >>> parse_schedule("open('x')")
    Traceback (most recent call last):
    ...
    ValueError: there is no schedule 'open'; there are: ...
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"cannot read {text!r} as a schedule: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None
    value = _Reader(text.strip()).read(tree.body)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schedules.constant(value)
    if not isinstance(value, schedules.Schedule):
        raise ValueError(f"{text!r} is a {type(value).__name__}, not a schedule")
    return value


class _Reader:
    """Walks an expression's tree; what it has no method for is refused."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.recipes = recipes()

    def read(self, node: ast.AST) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.refused(node)
        return method(node)

    def refused(self, node: ast.AST) -> ValueError:
        part = ast.get_source_segment(self.text, node) or self.text
        return ValueError(
            f"{part!r} is not allowed in a schedule; "
            "use recipes, numbers, lists, keyword arguments, + - * / and methods"
        )

    def _constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, bool | int | float | str) or node.value is None:
            return node.value
        raise self.refused(node)

    def _list(self, node: ast.List) -> list[Any]:
        return [self.read(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.read(item) for item in node.elts)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.read(node.operand)
        if not isinstance(node.op, ast.USub | ast.UAdd) or not isinstance(value, int | float):
            raise self.refused(node)
        return -value if isinstance(node.op, ast.USub) else value

    def _binop(self, node: ast.BinOp) -> Any:
        combine = _OPERATORS.get(type(node.op))
        sides = [self.read(node.left), self.read(node.right)]
        # Text and lists could be multiplied without end.
        if combine is None or any(isinstance(side, str | list | tuple) for side in sides):
            raise self.refused(node)
        try:
            return combine(*sides)
        except (TypeError, ZeroDivisionError, OverflowError):
            raise self.refused(node) from None

    def _call(self, node: ast.Call) -> Any:
        function = self._function(node.func)
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.refused(node)
        arguments = [self.read(argument) for argument in node.args]
        keywords = {str(k.arg): self.read(k.value) for k in node.keywords}
        try:
            return function(*arguments, **keywords)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def _function(self, node: ast.AST) -> Callable[..., Any]:
        if isinstance(node, ast.Name):
            if node.id not in self.recipes:
                raise ValueError(_unknown("schedule", node.id, list(self.recipes)))
            return self.recipes[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.read(node.value)
            if not isinstance(owner, schedules.Schedule):
                raise self.refused(node)
            if node.attr not in _METHODS:
                raise ValueError(_unknown("method", node.attr, list(_METHODS)))
            function: Callable[..., Any] = getattr(owner, node.attr)
            return function
        raise self.refused(node)


def _unknown(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    return f"there is no {kind} {name!r}; {hint}"
