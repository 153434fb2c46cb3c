"""The nodes a schedule is lowered to, before `_core.Schedule` evaluates them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

LARGEST = sys.float_info.max

Array = NDArray[np.float64]
Flat = tuple[str, list[float], list[int], list[float]]  # kind, numbers, children, data


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its kind, its numbers, its children and, for a leaf, its table or function."""

    kind: str
    params: tuple[float, ...] = ()
    children: tuple[Node, ...] = ()
    data: tuple[float, ...] = ()
    function: Callable[[float], float] | None = None


def constant(value: float) -> Node:
    """The node with the same number at every step."""
    return Node("constant", (value,))


def log2_pair(number: float) -> tuple[float, float]:
    """log2 of a positive number as high + low, good to 100 bits and the same on every machine."""
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(number).ln() / Decimal(2).ln()
        high = float(exact)
        return high, float(exact - Decimal(high))


def join(pieces: list[tuple[float, Node]]) -> Node:
    """Each piece from its start to the start of the next, evaluated at the steps since its own.

    A piece that starts before step 0 has begun already: it is evaluated at later steps.
    """
    kept = [(start, node) for start, node in pieces if start > 0]
    begun = [(start, node) for start, node in pieces if start <= 0]
    if begun:
        start, node = begun[-1]
        kept.insert(0, (0.0, node if start == 0 else Node("shift", (start,), (node,))))
    if len(kept) == 1:
        return kept[0][1]
    return Node("join", (), tuple(node for _, node in kept), tuple(start for start, _ in kept))


def flatten(root: Node) -> tuple[list[Flat], list[Callable[[float], float]]]:
    """The tree as a list, children before parents, and its functions, as `_core.Schedule` expects.

    A node that occurs twice, as in `s + s`, is one entry.
    """
    flat: list[Flat] = []
    functions: list[Callable[[float], float]] = []
    places: dict[int, int] = {}

    def visit(node: Node) -> int:
        if id(node) not in places:
            children = [visit(child) for child in node.children]
            if node.function is not None:
                functions.append(checked(node.function))
            flat.append((node.kind, list(map(float, node.params)), children, list(node.data)))
            places[id(node)] = len(flat) - 1
        return places[id(node)]

    visit(root)
    return flat, functions


def checked(function: Callable[[float], float]) -> Callable[[float], float]:
    """A Python function with checked results; whole steps are passed as int."""

    def value(step: float) -> float:
        result = float(function(int(step) if step.is_integer() else step))
        if not (math.isfinite(result) and result >= 0):
            name = getattr(function, "__qualname__", repr(function))
            raise ValueError(
                f"from_function: {name}({step:.17g}) must be a finite number >= 0, got {result!r}"
            )
        return result

    return value
