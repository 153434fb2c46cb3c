"""The function under test, called on copies, with random numbers that repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stepsize.arrays import (
    COMPLEX,
    Array,
    Nest,
    Structure,
    ValueAndGrad,
    batch_in_words,
    check_dtype,
    flatten,
    loss_and_grads,
    map_leaves,
    refuse_same_names,
    unflatten,
    view_as_real,
)
from stepsize.optimizers import RowGradient
from stepsize.optimizers.gradients import plain
from stepsize.rng import rewinder

OWNER = "check_gradients"
Point = Sequence[Array]
MOST = 1e100  # a gradient, beyond which squares may be no number


class Sides(Protocol):
    """The bounds of a leaf."""

    @property
    def low(self) -> Array: ...

    @property
    def high(self) -> Array: ...


@dataclass(frozen=True)
class Answer:
    """What the function said at a point: the loss, and a gradient or None for each leaf."""

    loss: float
    grads: list[Array | None]

    @property
    def broken(self) -> set[int]:
        """The leaves whose gradient is not finite."""
        return {i for i, g in enumerate(self.grads) if g is not None and not finite(g)}


def finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


class Calls:
    """The function, the copies of parameters and batch that it gets, and what it did to them.

    It gets the same arrays at each call, as in a training, and they are set anew before each, so
    that it cannot disturb what follows. With `frozen` each call draws the same random numbers.
    """

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        params: Nest,
        batch: Any,
        bounds: Sequence[Sides | None] | None = None,
    ) -> None:
        structure = Structure(params)
        if not structure.leaves:
            raise ValueError(f"{OWNER}: params holds no array; give at least one")
        refuse_same_names(structure.paths, OWNER)
        for leaf, path in zip(structure.leaves, structure.paths, strict=True):
            check_dtype(leaf, path, OWNER)
            if not finite(leaf):
                raise ValueError(
                    f"{OWNER}: {path} holds NaN or infinity; check gradients at finite parameters"
                )
        self.structure, self.paths = structure, structure.paths
        own = [np.array(leaf, order="K") for leaf in structure.leaves]
        # What is moved and compared is real: of complex leaves, an axis of their parts more.
        self._leaves = [view_as_real(leaf) for leaf in own]
        self.start: list[Array] = [np.array(leaf, order="K") for leaf in self._leaves]
        self.complex = [leaf.dtype in COMPLEX for leaf in own]
        self._params = unflatten(structure.spec, own)
        self.batch = map_leaves(_own, batch)
        self._parts = [leaf for leaf in flatten(self.batch)[0] if _comparable(leaf)]
        self._kept = [np.array(leaf, order="K") for leaf in self._parts]
        self._bounds = [None] * len(own) if bounds is None else bounds
        self._function = value_and_grad
        self._given = batch
        self._rewind = rewinder(value_and_grad, batch)
        self._first: Callable[[], None] | None = None  # while another draw is held fixed
        self.frozen = True
        self.broken: set[int] = set()  # leaves whose gradient is not finite at the parameters
        self.count = 0
        self.losses: list[float] = []  # all that were finite
        self.exponent: int | None = None  # of 2, by which losses and gradients are multiplied
        self.together: dict[str, str] = {}  # leaves whose gradients begin at one place of memory
        self.changed: set[str] = set()
        self.batch_changed = False

    def rewind(self) -> None:
        """Put the random generators back to where they were."""
        self._rewind()

    def redraw(self, point: Point) -> None:
        """Hold the random numbers fixed that come after those of a call."""
        self._rewind()
        self.frozen = False
        self._first = self._first or self._rewind
        self.at(point)
        self.frozen = True
        self._rewind = rewinder(self._function, self._given)

    def same_draw(self) -> None:
        """Hold the random numbers fixed again that came first."""
        self._rewind, self._first = self._first or self._rewind, None
        self._rewind()

    def at(self, point: Point) -> Answer:
        """Loss and gradients at a point; what the function raises is passed on."""
        for leaf, value in zip(self._leaves, point, strict=True):
            np.copyto(leaf, value)
        if self.frozen:
            self._rewind()
        self.count += 1
        try:
            found = self._function(self._params, self.batch)
        except StopIteration as error:
            raise TypeError(
                f"{OWNER}: batch is a {type(self.batch).__name__} that has run out, since the "
                "function is called again and again; give one batch, next(batch)"
            ) from error
        except Exception as error:
            if self.count == 1:
                error.add_note(
                    f"{OWNER}: raised in the first call, value_and_grad(params, batch), of which "
                    f"batch is {batch_in_words(self._given)}"
                )
            raise
        loss, grads = loss_and_grads(found)
        answer = self._scaled(loss, self._own_gradients(grads))
        self._look_for_changes(point, answer)
        if math.isfinite(answer.loss):
            self.losses.append(answer.loss)
        return answer

    def _scaled(self, loss: float, grads: list[Array | None]) -> Answer:
        """The answer in a unit in which the squares of gradients are numbers; a power of 2."""
        if self.exponent is None:
            sizes = [float(np.abs(g).max(initial=0.0)) for g in grads if g is not None]
            size = max((size for size in sizes if math.isfinite(size)), default=0.0)
            size = max(size, abs(loss) / MOST) if size and math.isfinite(loss) else size
            out = size and not 1 / MOST < size < MOST
            if size:  # at a minimum there is none, and it is told from the next point
                self.exponent = -math.frexp(size)[1] if out else 0
        if not self.exponent:
            return Answer(loss, grads)
        found = [None if g is None else np.ldexp(g, self.exponent) for g in grads]
        return Answer(float(np.ldexp(loss, self.exponent)), found)

    def unscaled(self, value: Any) -> Any:
        """A loss, or a slope, in the unit of the function."""
        return np.ldexp(value, -self.exponent) if self.exponent else value

    def near(self, point: Point) -> Answer | None:
        """The same beside the parameters, or None where the function is not finite or defined.

        It need not be defined outside of bounds.
        """
        if not all(map(np.all, map(self.inside, range(len(point)), point))):
            return None
        try:
            answer = self.at(point)
        except (ArithmeticError, AssertionError, RuntimeError, ValueError):
            return None
        return answer if math.isfinite(answer.loss) and answer.broken <= self.broken else None

    def inside(self, i: int, leaf: Array) -> Any:
        """Which numbers of a leaf lie inside of its bounds."""
        sides = self._bounds[i]
        return True if sides is None else (leaf >= sides.low) & (leaf <= sides.high)

    def _own_gradients(self, grads: Nest) -> list[Array | None]:
        given: list[Any] = self.structure.flatten(grads)
        if all(one is None for one in given):
            raise TypeError(f"{OWNER}: value_and_grad must return gradients, got None for each")
        if self.count == 1:
            self.together = _together(self.paths, given)
        found: list[Array | None] = []
        for path, leaf, value in zip(self.paths, self.structure.leaves, given, strict=True):
            if isinstance(value, RowGradient):
                value = value.whole(OWNER, path, leaf)
            value = plain(OWNER, path, leaf, value)
            found.append(None if value is None else np.array(view_as_real(value)))
        return found

    def _look_for_changes(self, point: Point, answer: Answer) -> None:
        for i, (leaf, value) in enumerate(zip(self._leaves, point, strict=True)):
            # Without a gradient it may be a state of the function's own, as a running mean.
            if answer.grads[i] is not None and not np.array_equal(leaf, value):
                self.changed.add(self.paths[i])
        for part, kept in zip(self._parts, self._kept, strict=True):
            if not np.array_equal(part, kept, equal_nan=part.dtype.kind in "fc"):
                self.batch_changed = True
                np.copyto(part, kept)

    def sizes(self) -> dict[int, str]:
        """Lengths in the batch that a forgotten mean or sum would divide or multiply by."""
        found: dict[int, str] = {}
        for part in self._kept:
            if part.ndim:
                found.setdefault(part.shape[0], "the batch size: a sum against a mean")
        for part in self._kept:
            if part.ndim > 1 and part.dtype.kind in "fc":
                found.setdefault(part.size, "the number of elements: a sum against a mean")
            for n in part.shape[1:]:
                found.setdefault(n, "the length of an axis: a sum against a mean")
        return {n: text for n, text in found.items() if n > 1}


def _together(paths: Sequence[str], given: Sequence[Any]) -> dict[str, str]:
    """For each path, another one whose gradient begins at the same place of memory."""
    places: dict[int, list[str]] = {}
    for path, value in zip(paths, given, strict=True):
        if isinstance(value, np.ndarray) and value.size:
            places.setdefault(value.ctypes.data, []).append(path)
    return {
        path: next(other for other in some if other != path)
        for some in places.values()
        if len(some) > 1
        for path in some
    }


def _own(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _comparable(leaf: Any) -> bool:
    return (
        isinstance(leaf, np.ndarray)
        and not isinstance(leaf, np.ma.MaskedArray)
        and leaf.dtype.kind in "biufcSUmM"
    )
