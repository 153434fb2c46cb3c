"""Schedules as text and as JSON: written by `repr` and `to_dict`, read without running code."""

from __future__ import annotations

import ast
import inspect
import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any

from stepsize.names import did_you_mean
from stepsize.schedules import importers
from stepsize.schedules.run_length import epochs
from stepsize.schedules.schedule import RECIPES, Schedule

ATOM, TERM, SUM = 2, 1, 0  # operator precedence: a call, a product, a sum
OPERATORS = {"scale": TERM, "product": TERM, "sum": SUM}


def _is_method(name: str) -> bool:
    """Whether the recipe is written as a method: its first argument is the schedule it acts on."""
    signature: inspect.Signature = RECIPES[name].signature  # type: ignore[attr-defined]
    return next(iter(signature.parameters)) == "schedule" and hasattr(Schedule, name)


METHODS = sorted(filter(_is_method, RECIPES))

# What text may call. It cannot name Python functions: nothing in it is imported or called.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: call
    for name, call in RECIPES.items()
    if name not in (*METHODS, *OPERATORS, "then", "from_function")
}
FUNCTIONS |= {"epochs": epochs} | {name: getattr(importers, name) for name in importers.__all__}
FUNCTIONS = dict(sorted(FUNCTIONS.items()))

MOST_PARTS = 10_000  # the most parts of a schedule written as text
LONGEST = 1_000_000  # characters of an expression

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


# -- to text -----------------------------------------------------------------------------------


def written(schedule: Schedule) -> str:
    """The call that made the schedule; for very many parts, only their number."""
    count = parts(schedule)
    return expression(schedule) if count <= MOST_PARTS else f"<a schedule of {count:,} parts>"


def parts(schedule: Schedule, known: dict[int, int] | None = None) -> int:
    """The number of calls in a schedule's text; what occurs twice, as in `s + s`, counts twice."""
    known = {} if known is None else known
    if id(schedule) not in known:
        inner = (item for value in schedule.arguments.values() for item in _schedules_in(value))
        known[id(schedule)] = 1 + sum(parts(item, known) for item in inner)
    return known[id(schedule)]


def _schedules_in(value: Any) -> tuple[Schedule, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(item for item in values if isinstance(item, Schedule))


def same(a: Schedule, b: Schedule, known: set[tuple[int, int]] | None = None) -> bool:
    """Whether two schedules were made by equal calls; repeated parts are compared once."""
    known = set() if known is None else known
    if a is b or (id(a), id(b)) in known:
        return True
    if a.name != b.name or hash(a) != hash(b):
        return False
    for left, right in zip(a.arguments.values(), b.arguments.values(), strict=True):
        inner, other = _schedules_in(left), _schedules_in(right)
        if len(inner) != len(other) or (not inner and left != right):
            return False
        if not all(same(x, y, known) for x, y in zip(inner, other, strict=True)):
            return False
    known.add((id(a), id(b)))
    return True


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
    """The expression, in parentheses where operator precedence needs them."""
    text = expression(schedule)
    return text if OPERATORS.get(schedule.name, ATOM) >= tightness else f"({text})"


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Required arguments by position, the others by name if they are not the default."""
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
    """`module:name` if that leads back to the function, else None."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else None


# -- from text ---------------------------------------------------------------------------------


def parse(text: str) -> Schedule:
    """The schedule that `text` describes, or a constant one if it is a number.

    Allowed are the functions of `ss.schedules`, numbers, strings, lists, tuples, keyword arguments,
    `+ - * /` and the methods of a schedule: all that `repr` writes, except Python functions.
    Nothing else is evaluated. ValueError says which part is not understood.

    >>> parse("0.5 * linear(0.2, 0.0, 10)")(5)
    0.05
    >>> parse("open('x')")
    Traceback (most recent call last):
    ...
    ValueError: there is no schedule 'open'; there are: ...
    """
    if len(text) > LONGEST:
        raise ValueError(f"the expression is {len(text):,} characters long, {LONGEST:,} may be")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _Reader(text.strip()).read(tree.body)
    except SyntaxError as error:
        raise ValueError(f"cannot read {text!r:.200} as a schedule: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"the expression is nested too deeply: {text:.60}...") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return RECIPES["constant"](value)
    if not isinstance(value, Schedule):
        raise ValueError(f"{text!r:.200} is a {type(value).__name__}, not a schedule")
    return value


class _Reader:
    """Evaluates a syntax tree; a node without a method here is refused."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, node: ast.AST) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.refused(node)
        return method(node)

    def refused(self, node: ast.AST) -> ValueError:
        part = self.text
        if isinstance(node, ast.expr) and node.end_lineno == 1:
            part = part.encode()[node.col_offset : node.end_col_offset].decode()
        return ValueError(
            f"{part!r:.200} is not allowed in a schedule; "
            "use the functions of ss.schedules, numbers, lists, keywords, + - * / and methods"
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
        combine = _ARITHMETIC.get(type(node.op))
        sides = [self.read(node.left), self.read(node.right)]
        # Strings and lists could be multiplied to any size.
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
            if node.id == "from_function":
                raise ValueError(
                    "from_function: a function cannot be named in text; make the schedule in Python"
                )
            if node.id not in FUNCTIONS:
                hint = did_you_mean(node.id, FUNCTIONS)
                raise ValueError(f"there is no schedule {node.id!r:.80}; {hint}")
            return FUNCTIONS[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.read(node.value)
            if not isinstance(owner, Schedule):
                raise self.refused(node)
            known = sorted([*METHODS, "then"])
            if node.attr not in known:
                hint = did_you_mean(node.attr, known)
                raise ValueError(f"there is no method {node.attr!r:.80}; {hint}")
            function: Callable[..., Any] = getattr(owner, node.attr)
            return function
        raise self.refused(node)


# -- to and from JSON --------------------------------------------------------------------------


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


def from_plain(value: Any, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """What `to_plain` wrote; Python functions come from `functions`, by their import paths."""
    if isinstance(value, list | tuple):
        return [from_plain(item, functions) for item in value]
    if not isinstance(value, Mapping):
        return value
    name, arguments = value.get("name"), value.get("arguments")
    extra = sorted(map(repr, set(value) - {"name", "arguments"}))
    if extra:
        raise ValueError(f"unknown key {', '.join(extra)} beside the schedule {name!r}")
    if name not in RECIPES or not isinstance(arguments, Mapping):
        known = ", ".join(sorted(RECIPES))
        raise ValueError(f"{name!r} is not a schedule; known are {known}")
    made = {str(key): from_plain(item, functions) for key, item in arguments.items()}
    if name == "from_function" and "f" in made:
        made["f"] = _trusted(made["f"], functions)
    return RECIPES[name](**made)


def _trusted(path: Any, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function with that path among those that the caller gave."""
    if isinstance(path, str) and path in functions:
        return functions[path]
    raise ValueError(
        f"the schedule calls the Python function {path!r}, and what a file names is not called; "
        "make the optimizer with that function in its schedule before loading, or give the "
        "function: Schedule.from_dict(d, trust=[function])"
    )


def functions_in(value: Any) -> dict[str, Callable[..., Any]]:
    """The Python functions in a function, a schedule or a collection of them, by import path."""
    if isinstance(value, Schedule):
        return functions_in(tuple(value.arguments.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return {path: f for item in value for path, f in functions_in(item).items()}
    path = import_path(value) if callable(value) else None
    return {} if path is None else {path: value}
