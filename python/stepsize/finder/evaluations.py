"""A function of a point alone: its calls are counted, its arrays copied, its lowest point kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsize.arrays import (
    Array,
    Nest,
    Structure,
    copy,
    flatten,
    loss_and_grads,
    not_finite,
    unflatten,
    view_as_complex,
    view_as_real,
)
from stepsize.optimizers import RowGradient
from stepsize.optimizers.gradients import plain

BESIDE = 1e-3  # how far to look beside a start whose gradient is 0, in units of its size
ROUNDING = 64  # units in the last place by which a value has to be lower
REMEMBERED = 2**26  # bytes of points and gradients, at most

Function = Callable[[Nest], tuple[float, Nest]]


@dataclass(frozen=True)
class Point:
    """What the function said at a point; `largest` is the largest component of the gradient."""

    x: Nest
    fun: float
    grad: Nest
    largest: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.fun) and math.isfinite(self.largest)

    @property
    def trouble(self) -> str:
        value = f"the value is {self.fun}"
        return f"{not_finite(self.grad)} is not finite" if math.isfinite(self.fun) else value


class Evaluations:
    """The function, what it said last, and the best it said so far.

    It gets copies of the point, which it may change, and its gradients are copied, so that it may
    fill the same arrays at each call.
    """

    def __init__(
        self,
        function: Function,
        x: Nest,
        component: Callable[[int, Array, Array], float] | None = None,
    ) -> None:
        self.function = function
        self._component = component  # the largest of leaf i at x with a gradient, if not max|g|
        self.calls = self.beside = 0
        self.at: list[Array] = []
        self.structure = Structure(x)
        self.best = Point(copy(x), math.inf, None, math.nan)
        self.start = self.start_largest = math.nan
        self._known: dict[bytes, Point] = {}  # by the bytes of a point
        self._remembers = False
        self._held = 0
        self.aside: Point | None = None  # a best point of the search, where the run finds it again

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Remember what is called in here, so that a run over the same points costs nothing."""
        self._remembers = True
        try:
            yield
        finally:
            self._remembers = False

    def look(self, x: Nest) -> Point:
        """Value and gradient; a point asked about twice in a row is evaluated once."""
        if not self.at or self.moved(x):
            self.last = self.call(x)
            self.at = [leaf.copy() for leaf in flatten(x)[0]]
        return self.last

    def closure(self, x: Nest) -> tuple[float, Nest]:
        """What a line search asks for."""
        point = self.look(x)
        return point.fun, point.grad

    def called(self, x: Nest, batch: object = None) -> tuple[float, Nest]:
        """What the finder asks for."""
        point = self.call(x)
        return point.fun, point.grad

    def call(self, x: Nest) -> Point:
        """Call the function; the best point is kept, wherever it was asked for."""
        key = b"".join(leaf.tobytes() for leaf in flatten(x)[0]) if self._watches else b""
        if key in self._known:
            return replace(self._known[key], x=x)
        self.calls += 1
        try:
            value, grads = loss_and_grads(self.function(copy(x)), "fun_and_grad")
        except (FloatingPointError, OverflowError):
            if self.calls == 1:
                raise
            return Point(x, math.nan, None, math.nan)
        grads, largest = self.checked(grads, flatten(x)[0])
        point = Point(x, value, grads, largest)
        if self._remembers and self._held < REMEMBERED:
            self._known[key] = replace(point, x=None)
            self._held += 2 * len(key)
        if self.calls == 1:
            self.start, self.start_largest = value, largest
        lower = value < self.best.fun or (value == self.best.fun and largest < self.best.largest)
        if point.finite and lower:
            self.best = replace(point, x=copy(x))
        return point

    def set_aside(self, before: Point) -> None:
        """Go back to an earlier best point, until `take_back`."""
        self.aside, self.best = self.best, before

    def take_back(self) -> None:
        """Have the point that was set aside as the best again, where it is."""
        if self.aside is not None and self.aside.fun < self.best.fun:
            self.best = self.aside

    @property
    def _watches(self) -> bool:
        return self._remembers or bool(self._known)

    def lower_beside(self, x: Nest) -> str:
        """What to say of a start with a gradient of 0 where the function is lower beside it."""
        leaves = flatten(x)[0]
        random = np.random.default_rng(0)
        top = max((float(np.abs(leaf).max(initial=0.0)) for leaf in leaves), default=0.0)
        size = BESIDE * max(1.0, top)
        parts = [view_as_real(leaf) for leaf in leaves]
        ways = [
            view_as_complex(size * random.standard_normal(part.shape), leaf.dtype)
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        eps = max((float(np.finfo(leaf.dtype).eps) for leaf in leaves), default=0.0)
        least = self.last.fun - ROUNDING * eps * abs(self.last.fun)
        for sign in (1, -1):
            moved = [
                (leaf + sign * way).astype(leaf.dtype)
                for leaf, way in zip(leaves, ways, strict=True)
            ]
            self.calls += 1
            self.beside += 1
            try:
                point = unflatten(self.structure.spec, moved)
                value = loss_and_grads(self.function(point), "fun_and_grad")[0]
            except (ArithmeticError, ValueError):  # it is not defined there
                continue
            if value < least:
                return (
                    f"the gradient at x0 is 0, and yet the function is lower beside it "
                    f"({value:.9g} against {self.last.fun:.9g}): x0 is a maximum or a saddle, or "
                    "the gradient is wrong; start elsewhere, or see ss.check_gradients"
                )
        return ""

    def checked(self, grads: Nest, leaves: list[Array]) -> tuple[Nest, float]:
        """A copy of the gradient, of whole arrays, and its largest component."""
        if grads is None:
            raise TypeError("minimize: fun_and_grad must return a gradient, got None")
        copies: list[Any] = []
        largest = 0.0
        if isinstance(grads, list | tuple) and self.structure.spec.is_leaf():
            found: list[Any] = [grads]  # numbers, where the point is one array
        else:
            found = self.structure.flatten(grads)
        places = zip(self.structure.paths, leaves, found, strict=True)
        for i, (path, leaf, given) in enumerate(places):
            if isinstance(given, RowGradient):
                given = given.whole("minimize", path, leaf)
            elif isinstance(given, list | tuple):
                given = _array_of(path, leaf, given)
            given = plain("minimize", path, leaf, given)
            copies.append(None if given is None else np.array(given))
            if given is not None:
                top = float(np.abs(view_as_real(copies[-1])).max(initial=0.0))
                if self._component is not None and math.isfinite(top):
                    top = self._component(i, leaf, copies[-1])
                largest = math.nan if math.isnan(top + largest) else max(top, largest)
        if all(one is None for one in copies):
            raise TypeError("minimize: fun_and_grad must return a gradient, got None in each place")
        return unflatten(self.structure.spec, copies), largest

    def moved(self, x: Nest) -> bool:
        """Whether this is another point than the last one looked at."""
        return not all(map(np.array_equal, flatten(x)[0], self.at))


def _array_of(path: str, leaf: Array, numbers: Any) -> Array:
    """A list of numbers as the array of the leaf's dtype that it stands for."""
    try:
        return np.array(numbers, leaf.dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"minimize: the gradient of {path} must be an array of {leaf.dtype} or a list of "
            f"numbers, got {numbers!r:.80}"
        ) from error
