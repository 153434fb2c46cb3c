"""Gradients of functions that have none: finite differences, complex steps, random directions.

Each makes a ``value_and_grad`` of a function ``f(params, batch) -> value``, for every optimizer,
finder and loop. With n numbers in the parameters, u the unit of rounding and s the noise of the
value (at least u times the value):

| | calls of f | error of an element, step h |
| --- | --- | --- |
| `central` | 2 n + 1 | f''' h^2 / 6 + s / h |
| `forward` | n + 1 | f'' h / 2 + 2 s / h |
| `complex_step` | n + 1 | that of f itself; f must be analytic and take complex arrays |
| `spsa` | 2 a direction | unbiased, noise sqrt((n - 1) / directions) times the gradient's norm |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from stepsize.arrays import (
    Array,
    Nest,
    Structure,
    ValueAndGrad,
    check_dtype,
    check_function,
    computed,
    is_narrow,
    refuse_changes,
    refuse_complex,
    unflatten,
)
from stepsize.optimizers.constraints import bounds_of_leaf
from stepsize.validation import as_float, number, whole

Function = Callable[[Nest, Any], Any]

COMPLEX_STEP = 1e-20  # its square is lost in rounding, and nothing is subtracted
MOST_DIRECTIONS = 2**53  # counts up to here are exact in double precision
SPSA_STEP = 1e-2  # times the scale of a leaf
WIDE = {"f": np.complex64, "d": np.complex128}


def central(f: Function, *, step: float | None = None, bounds: Any = None) -> ValueAndGrad:
    r"""Gradient by central differences, the accurate one of the two.

    .. math:: g_i = \frac{f(x + h e_i) - f(x - h e_i)}{2 h}

    Costs 2 n + 1 calls of ``f`` for n numbers. ``step`` is h in units of max(1, \|x_i\|); None is
    the cube root of the unit of rounding, 6e-6 in double and 5e-3 in single precision, for a value
    that is exact to rounding. For one with noise s give about the cube root of s. A relative
    error near 1e-10 in double precision, and 1e-4 in single, is what to expect.

    ``f`` is not called outside of ``bounds``, as optimizers take them: where one is nearer than h,
    the difference is that of three points on the other side, of the same order and a call more.

    Raises:
        TypeError: ``f`` is no function, or returns something other than one number.
        ValueError: the step is out of range, or ``f`` writes into the parameters.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> value_and_grad = ss.gradients.central(lambda p, batch: np.sum(p["x"] ** 3))
        >>> value, grads = value_and_grad({"x": np.array([1.0, 2.0])}, None)
        >>> float(value), grads["x"].round(6)
        (9.0, array([ 3., 12.]))
    """
    step = _checked("central", f, step)

    def value_and_grad(params: Nest, batch: Any = None) -> tuple[float, Nest]:
        at = _Point("central", f, params, batch, bounds)
        value = at.value()
        for number_ in at.elements(1 / 3, step):
            x, h = number_.x, number_.h
            if not number_.low <= x - h or not x + h <= number_.high:
                number_.put(at.one_sided(number_, value))
                continue
            high, top = at.moved(number_, x + h)
            low, bottom = at.moved(number_, x - h)
            number_.put((high - low) / (top - bottom))
        return value, at.gradient()

    return value_and_grad


def forward(f: Function, *, step: float | None = None, bounds: Any = None) -> ValueAndGrad:
    r"""Gradient by forward differences: half the calls of `central`, half the digits.

    .. math:: g_i = \frac{f(x + h e_i) - f(x)}{h}

    Costs n + 1 calls of ``f`` for n numbers. ``step`` is h in units of max(1, \|x_i\|); None is the
    square root of the unit of rounding, 1.5e-8 in double and 3e-4 in single precision. For a value
    with noise s give about the square root of s. At an upper one of ``bounds``, as optimizers take
    them, the step is backward.

    Raises:
        TypeError: ``f`` is no function, or returns something other than one number.
        ValueError: the step is out of range, or ``f`` writes into the parameters.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> value_and_grad = ss.gradients.forward(lambda x, batch: (x @ x) / 2)
        >>> value_and_grad(np.array([3.0, 4.0]), None)[1].round(4)
        array([3., 4.])
    """
    step = _checked("forward", f, step)

    def value_and_grad(params: Nest, batch: Any = None) -> tuple[float, Nest]:
        at = _Point("forward", f, params, batch, bounds)
        value = at.value()
        for number_ in at.elements(1 / 2, step):
            h = number_.room(1)
            high, top = at.moved(number_, number_.x + h)
            number_.put((high - value) / (top - number_.x) if h else 0.0)
        return value, at.gradient()

    return value_and_grad


def complex_step(f: Function) -> ValueAndGrad:
    r"""Gradient by complex steps: exact to rounding, for an analytic function of complex arrays.

    .. math:: g_i = \operatorname{Im} f(x + i h e_i) / h, \quad h = 10^{-20}

    Nothing is subtracted, so that the step may be so small that its error vanishes. ``f`` must not
    drop or turn the imaginary part: no ``abs``, ``.conj()``, ``.real``, ``float()`` or comparison
    on the way (``x @ x`` and not ``np.vdot(x, x)``). n + 1 calls for n numbers.

    Raises:
        TypeError: ``f`` is no function, or returns something other than one number, or a real one
            where it was asked for a complex one.
        ValueError: ``f`` writes into the parameters.

    Source: Squire & Trapp 1998, SIAM Review 40, 110.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> value_and_grad = ss.gradients.complex_step(lambda x, batch: np.exp(x).sum())
        >>> bool((value_and_grad(np.ones(2), None)[1] == np.exp(1.0)).all())
        True
    """
    _checked("complex_step", f, None)

    def value_and_grad(params: Nest, batch: Any = None) -> tuple[float, Nest]:
        at = _Point("complex_step", f, params, batch)
        value = at.value()
        at.make_complex()
        for number_ in at.elements(1.0, None):
            number_.put(at.imaginary(number_) / COMPLEX_STEP)
        return value, at.gradient()

    return value_and_grad


def spsa(
    f: Function,
    seed: int = 0,
    *,
    step: float = SPSA_STEP,
    directions: int = 1,
    bounds: Any = None,
) -> Any:
    r"""A random gradient from two calls, whatever the number of parameters.

    .. math:: g = \frac{f(x + c \Delta) - f(x - c \Delta)}{2 c} \Delta, \quad \Delta_i = \pm 1

    Simultaneous perturbation: along a random direction of signs, as a mean over ``directions`` of
    them. Its mean is the gradient; its noise has sqrt((n - 1) / directions) times the gradient's
    length for n numbers, so that rates are smaller by as much as the square of that, and a rule
    that averages (momentum, Adam) helps. c is ``step`` times the root mean square of a leaf (at
    least ``step`` times 0.1, so that a leaf of zeros moves); for a value with noise choose it so
    that the values differ by more than that. Value and gradient come from the 2 calls a direction;
    the value is the mean of both sides.

    Nearer than c to one of ``bounds``, as optimizers take them, value and gradient are those of the
    nearest point that is not (Sadegh 1997); between two bounds c is half of their distance at most.

    The directions go on from call to call, from ``seed``; finders, checks and rehearsals put them
    back as they do with other generators.

    Raises:
        TypeError: ``f`` is no function, or returns something other than one number.
        ValueError: an argument is out of range, or ``f`` writes into the parameters.

    Source: Spall 1992, IEEE Trans. Automatic Control 37, 332.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = np.array([3.0, -2.0])
        >>> value_and_grad = ss.gradients.spsa(lambda x, batch: x @ x, seed=1)
        >>> optimizer = ss.SGD(x, lr=0.05)
        >>> for _ in range(200):
        ...     value, grads = value_and_grad(x, None)
        ...     optimizer.step(grads)
        >>> bool(abs(x).max() < 1e-3)
        True
    """
    _checked("spsa", f, number("spsa: step", step, 0.0, low_open=True))
    directions = whole("spsa: directions", directions, 1, MOST_DIRECTIONS)
    rng = np.random.default_rng(whole("spsa: seed", seed, 0))

    def value_and_grad(params: Nest, batch: Any = None) -> tuple[float, Nest]:
        at = _Point("spsa", f, params, batch, bounds)
        at.reach = step
        total = 0.0
        for _ in range(directions):
            signs = [rng.choice((-1.0, 1.0), leaf.shape) for leaf in at.start]
            ends = [at.along(signs, side * step) for side in (1, -1)]
            at.add(signs, (ends[0] - ends[1]) / (2 * step * directions))
            total += (ends[0] + ends[1]) / (2 * directions)
        return total, at.gradient()

    return value_and_grad


def _checked(owner: str, f: Any, step: float | None) -> Any:
    check_function(owner, f, "f", "value")
    return None if step is None else number(f"{owner}: step", step, 0.0, 1.0, low_open=True)


class _Number:
    """One number of the parameters: where it is, its value, its step, and where its slope goes."""

    __slots__ = ("_out", "h", "high", "k", "leaf", "low", "x")

    def __init__(self, leaf: Array, out: Array, k: int, h: float, sides: tuple[Any, Any]) -> None:
        self.leaf, self.k, self.h = leaf, k, h
        self.low, self.high = (float(side[k]) for side in sides)
        self.x = float(leaf[k].real)
        self._out = out

    def room(self, steps: int) -> float:
        """The step, or what fits in so many times: upwards, else downwards, else where more is."""
        up, down = (self.high - self.x) / steps, (self.x - self.low) / steps
        if up >= self.h or (up >= down and down < self.h):
            return min(self.h, up)
        return -min(self.h, down)

    def put(self, slope: float) -> None:
        self._out[self.k] = slope


class _Point:
    """Copies of the parameters, which the function is called at and beside."""

    def __init__(
        self, owner: str, f: Function, params: Nest, batch: Any, bounds: Any = None
    ) -> None:
        self.owner, self._f, self._batch = owner, f, batch
        given = Structure(params)
        if not given.leaves:
            raise ValueError(f"{owner}: params holds no array; give at least one")
        for leaf, path in zip(given.leaves, given.paths, strict=True):
            check_dtype(leaf, path, owner)
            cure = "steps are along real numbers; give a function of its real and imaginary parts"
            refuse_complex(owner, path, leaf.dtype, cure)
        self.start = given.leaves
        self._structure = given
        self._grads = [np.zeros(leaf.shape, computed(leaf.dtype)) for leaf in self.start]
        self._sides = [_sides(owner, bounds, given, i) for i in range(len(self.start))]
        self.reach = 0.0  # of a direction, in units of each leaf's scale
        self._set([np.array(leaf, order="C") for leaf in self.start])

    def _set(self, leaves: list[Array]) -> None:
        self._leaves, self._kept = leaves, [np.array(leaf) for leaf in leaves]
        self._params = unflatten(self._structure.spec, leaves)

    def make_complex(self) -> None:
        """Go on with complex copies."""
        kinds = [WIDE[computed(leaf.dtype).char] for leaf in self.start]
        self._set([np.array(x, kind) for x, kind in zip(self.start, kinds, strict=True)])

    def _call(self) -> Any:
        value = np.asarray(self._f(self._params, self._batch))
        if value.size != 1 or value.dtype.kind not in "fiubc":
            raise TypeError(
                f"{self.owner}: f must return one number, got {value.dtype} of shape {value.shape}"
            )
        return value.reshape(()).item()

    def value(self) -> float:
        """The value at the parameters; the function must leave them as they are."""
        value = self._real(self._call())
        refuse_changes(Structure(self._params), self._kept, self.owner, "f")
        return value

    def _real(self, value: Any) -> float:
        if isinstance(value, complex):
            raise TypeError(
                f"{self.owner}: f must return a real number at real parameters, got {value!r}"
            )
        return as_float(value)

    def elements(self, power: float, step: float | None) -> Any:
        """Each number in turn; it is put back afterwards."""
        parts = zip(self._leaves, self.start, self._grads, self._sides, strict=True)
        for leaf, start, out, sides in parts:
            flat, slopes = leaf.reshape(-1), out.reshape(-1)
            low, high = (np.broadcast_to(side, leaf.shape).reshape(-1) for side in sides)
            share = step or float(np.finfo(_digits(start)).eps) ** power
            for k in range(flat.size):
                kept = flat[k]
                h = share * max(1.0, abs(float(kept.real)))
                yield _Number(flat, slopes, k, h, (low, high))
                flat[k] = kept

    def one_sided(self, at: _Number, value: float) -> float:
        """The slope by a parabola through three points to one side, 0 where there is no room."""
        h = at.room(2)
        if not h:
            return 0.0
        near, a = self.moved(at, at.x + h)
        far, b = self.moved(at, at.x + 2 * h)
        a, b = a - at.x, b - at.x
        if not a or b == a:
            return 0.0
        return ((near - value) * b / a - (far - value) * a / b) / (b - a)

    def moved(self, at: _Number, x: float) -> tuple[float, float]:
        """The value with one number moved, and where that has come to."""
        at.leaf[at.k] = min(max(x, at.low), at.high)  # a sum may be rounded to beyond a bound
        there = float(at.leaf[at.k])
        return self._real(self._call()), there

    def imaginary(self, at: _Number) -> float:
        at.leaf[at.k] = complex(at.x, COMPLEX_STEP)
        value = self._call()
        if not isinstance(value, complex):
            raise TypeError(
                f"{self.owner}: f returned a real number at complex parameters: something in it "
                "drops the imaginary part, such as abs, float or .real; use central instead"
            )
        return float(value.imag)

    def along(self, signs: list[Array], step: float) -> float:
        """The value a step along a direction, in units of each leaf's scale."""
        for i, (leaf, sign) in enumerate(zip(self._leaves, signs, strict=True)):
            middle, size = self._middle(i)
            leaf[...] = middle + (step * size * sign).astype(computed(leaf.dtype))
            low, high = self._sides[i]
            if middle is not self.start[i]:
                np.clip(leaf, low, high, out=leaf)
        self._kept = [np.array(leaf) for leaf in self._leaves]
        return self.value()

    def _middle(self, i: int) -> tuple[Array, Any]:
        """The nearest point that is a step away from the bounds, and the size of its numbers."""
        start, (low, high) = self.start[i], self._sides[i]
        size = _scale(start)
        if not np.any(low > -np.inf) and not np.any(high < np.inf):
            return start, size
        far = np.minimum(self.reach * size, (high - low) / 2)
        middle: Array = np.clip(start, low + far, high - far)
        return middle, far / self.reach

    def add(self, signs: list[Array], slope: float) -> None:
        for i, (out, sign) in enumerate(zip(self._grads, signs, strict=True)):
            size = self._middle(i)[1]
            share = np.divide(slope, size, out=np.zeros(np.shape(size)), where=np.asarray(size) > 0)
            out += (share * sign).astype(out.dtype)

    def gradient(self) -> Nest:
        """The gradient, once every number has been put back."""
        known = Structure(self._params)
        refuse_changes(known, self._kept, self.owner, "f")
        return unflatten(self._structure.spec, self._grads)


def _sides(owner: str, bounds: Any, params: Structure, i: int) -> tuple[Any, Any]:
    """The bounds of a leaf, infinite where there are none."""
    found = None if bounds is None else bounds_of_leaf(owner, bounds, params, i)
    return (np.array(-np.inf), np.array(np.inf)) if found is None else (found.low, found.high)


def _digits(leaf: Array) -> Any:
    return np.dtype(np.float32) if is_narrow(leaf.dtype) else leaf.dtype


def _scale(leaf: Array) -> float:
    size = cast(float, np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))) if leaf.size else 1.0
    return max(float(size), 0.1)
