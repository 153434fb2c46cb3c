"""The nodes a schedule is lowered to, and trees that hold a Python function.

A tree of numbers alone is compiled: `_core.Schedule` evaluates it. Where a Python function is among
the leaves, the few nodes above it are evaluated here with NumPy, everything else still compiled.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsize import _core

LARGEST = sys.float_info.max

Array = NDArray[np.float64]
Values = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its kind, its numbers, its children and, for a leaf, its table or function."""

    kind: str
    params: tuple[float, ...] = ()
    children: tuple[Node, ...] = ()
    data: tuple[float, ...] = ()
    function: Callable[[float], float] | None = None


def constant(value: float) -> Node:
    """The node that is the same number at every step."""
    return Node("constant", (value,))


def log2_pair(number: float) -> tuple[float, float]:
    """log2 of a positive number as high + low, good to 100 bits and the same on every machine."""
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(number).ln() / Decimal(2).ln()
        high = float(exact)
        return high, float(exact - Decimal(high))


def join(pieces: list[tuple[float, Node]]) -> Node:
    """Each piece from its start to the next one's, seeing the steps since its own start.

    A piece that starts at or before step 0 has begun already: it sees the steps it missed.
    """
    kept = [(start, node) for start, node in pieces if start > 0]
    begun = [(start, node) for start, node in pieces if start <= 0]
    if begun:
        start, node = begun[-1]
        kept.insert(0, (0.0, node if start == 0 else Node("shift", (start,), (node,))))
    if len(kept) == 1:
        return kept[0][1]
    return Node("join", (), tuple(node for _, node in kept), tuple(start for start, _ in kept))


def flatten(root: Node) -> list[tuple[str, list[float], list[int], list[float]]]:
    """The tree as a list, children before parents, as `_core.Schedule` takes it."""
    flat: list[tuple[str, list[float], list[int], list[float]]] = []

    def visit(node: Node) -> int:
        children = [visit(child) for child in node.children]
        flat.append((node.kind, list(map(float, node.params)), children, list(node.data)))
        return len(flat) - 1

    visit(root)
    return flat


def holds_function(node: Node) -> bool:
    """Whether a Python function is anywhere in the tree."""
    return node.function is not None or any(map(holds_function, node.children))


# Maps every acceptable step to itself and raises for every other one, as compiled schedules do.
checked_steps = _core.Schedule(flatten(Node("linear", (0.0, 2.0**53, 2.0**53))))


class Interpreted:
    """Evaluates a tree that holds a Python function; called and behaving like `_core.Schedule`."""

    __slots__ = ("values",)

    def __init__(self, root: Node) -> None:
        self.values = values_of(root)

    def __call__(self, step: Any) -> Any:
        steps = checked_steps(step)
        if isinstance(steps, float):
            return float(self.values(np.array([steps]))[0])
        return self.values(steps.ravel()).reshape(steps.shape)


def values_of(node: Node) -> Values:
    """The function from steps to values that a node stands for."""
    if node.function is not None:
        return calls(node.function)
    if not holds_function(node):
        values: Values = _core.Schedule(flatten(node)).values
        return values
    children = [values_of(child) for child in node.children]
    if node.kind == "join":
        return joined(children, node.data)
    p = node.params
    first, last = children[0], children[-1]
    made: dict[str, Values] = {
        "scale": lambda s: saturated(np.multiply, first(s), p[0]),
        "sum": lambda s: saturated(np.add, first(s), last(s)),
        "product": lambda s: saturated(np.multiply, first(s), last(s)),
        "clip": lambda s: np.clip(first(s), p[0], p[1]),
        "shift": lambda s: first(np.maximum(s - p[0], 0.0)),
        "stretch": lambda s: first(np.where(s < p[1], s * p[0] / p[1], 2.0**53)),
        "pace": lambda s: first(units(s, p[0], p[1] != 0)),
        "repeat": lambda s: first(np.clip(s - np.floor(s / p[0]) * p[0], 0.0, p[0])),
    }
    return made[node.kind]


def saturated(operation: np.ufunc, a: Array, b: Array | float) -> Array:
    """A sum or product that stops at the largest float, as the compiled ones do."""
    with np.errstate(over="ignore"):
        result: Array = np.minimum(operation(a, b), LARGEST)
        return result


def units(steps: Array, length: float, whole: bool) -> Array:
    """How many stretches of `length` the steps are, whole ones or exactly."""
    with np.errstate(over="ignore"):
        exact: Array = np.minimum(steps / length, 2.0**53)
    return np.floor(exact) if whole else exact


def joined(children: list[Values], starts: tuple[float, ...]) -> Values:
    """A join whose pieces include a Python function: each piece is asked for its own steps only."""

    def values(steps: Array) -> Array:
        piece = np.searchsorted(starts, steps, side="right") - 1
        out = np.empty_like(steps)
        for k, child in enumerate(children):
            mine = piece == k
            if mine.any():
                out[mine] = child(steps[mine] - starts[k])
        return out

    return values


def calls(function: Callable[[float], float]) -> Values:
    """A Python function, called once per step: with an int where the step is a whole number."""

    def value(step: float) -> float:
        result = float(function(int(step) if step.is_integer() else step))
        if not (math.isfinite(result) and result >= 0):
            name = getattr(function, "__qualname__", repr(function))
            raise ValueError(
                f"from_function: {name}({step:.17g}) must be a finite number >= 0, got {result!r}"
            )
        return result

    return lambda steps: np.array([value(step) for step in steps.tolist()], np.float64)
