"""Projections: the nearest point of a set, for `ss.Project` and the bounds of `minimize`.

Each is a small value: called with an array it returns the nearest array of its set (in the
Euclidean norm), it prints as the call that made it, and a function ``array -> array`` of your own
does as well. Of complex arrays the lengths are those of the modulus, and orthogonal means unitary;
sets that are an order of real numbers refuse them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from stepsize.arrays import Array, refuse_complex
from stepsize.validation import choice, number, whole

__all__ = [
    "Projection",
    "ball",
    "box",
    "nonnegative",
    "orthogonal",
    "simplex",
    "unit_norm",
]


MOST_AXES = 64  # that an array of NumPy has


class Projection:
    """The nearest point of a set: a function of an array that prints as the call which made it.

    With ``real=True`` the set is one of real arrays, and complex ones are refused.
    """

    def __init__(self, text: str, nearest: Callable[[Array], Array], *, real: bool = False) -> None:
        self._text = text
        self._nearest = nearest
        self._real = real

    def __call__(self, x: Array) -> Array:
        """The nearest array of the set, of the same shape and dtype."""
        try:
            array = np.asarray(x)
        except ValueError:  # a nest of lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "fciu" and array.dtype.name != "bfloat16":
            raise TypeError(f"{self}: needs an array of numbers, got {x!r:.80}")
        if self._real:
            cure = "the set is one of real arrays; give a function of your own, array -> array"
            refuse_complex(str(self), "the array", array.dtype, cure)
        try:
            return np.asarray(self._nearest(array), array.dtype)
        except np.exceptions.AxisError:
            raise ValueError(f"{self}: an array of shape {array.shape} has no such axis") from None

    def __repr__(self) -> str:
        return self._text


def _side(name: str, value: Any) -> Any:
    """One side of a box, checked; None where there is none."""
    if value is None:
        return None
    try:
        side = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"box: {name} must be a number, an array or None, got {value!r:.80}"
        ) from None
    if np.asarray(value).dtype.kind not in "fiu" or np.isnan(side).any():
        raise ValueError(f"box: {name} must hold real numbers, none of them NaN, got {value!r:.80}")
    return side


def box(low: Any = None, high: Any = None) -> Projection:
    """Between two bounds, each a number, an array that broadcasts, or None for no bound.

    Raises ValueError where a lower bound lies above the upper one, or one is NaN.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.box(0.0, [1.0, 2.0])(np.array([-1.0, 3.0]))
        array([0., 2.])
    """
    least, most = _side("low", low), _side("high", high)
    if least is not None and most is not None:
        try:
            above = least > most
        except ValueError:
            raise ValueError(
                f"box: low of shape {least.shape} and high of shape {most.shape} do not fit"
            ) from None
        if np.any(above):
            pair = np.broadcast_to(least, above.shape)[above], np.broadcast_to(most, above.shape)
            raise ValueError(
                f"box: low must not lie above high, got {pair[0][0]:g} above {pair[1][above][0]:g}"
                f" in {int(above.sum())} of {above.size} places"
            )
    if least is None and most is None:
        return Projection("box()", np.array, real=True)
    text = f"box({_text(low)}, {_text(high)})"
    return Projection(text, partial(_clipped, least, most), real=True)


def _clipped(low: Any, high: Any, x: Array) -> Array:
    # In the array's own dtype: a bound of another would make copies of it.
    sides = (None if side is None else side.astype(x.dtype) for side in (low, high))
    return np.asarray(np.clip(x, *sides))


def _text(value: Any) -> str:
    if value is None or np.ndim(value) == 0:
        return "None" if value is None else f"{float(value):g}"
    return f"<array of shape {np.shape(value)}>"


def nonnegative() -> Projection:
    """No element below 0.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.nonnegative()(np.array([-1.0, 3.0]))
        array([0., 3.])
    """
    return Projection("nonnegative()", partial(np.maximum, 0), real=True)


def ball(radius: float = 1.0, norm: str = "l2", axis: Any = None) -> Projection:
    """No longer than a radius, in the "l2" or "linf" norm, of the whole or of slices along axes.

    Of complex arrays "linf" holds the modulus of each number.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.ball(1.0)(np.array([3.0, 4.0]))
        array([0.6, 0.8])
    """
    radius = number("ball: radius", radius, 0.0, low_open=True)
    norm = choice("ball: norm", norm, ("l2", "linf"))
    axis = _axes("ball: axis", axis)
    text = f"ball({radius:g}, {norm!r}, axis={axis!r})"
    if norm == "linf":
        return Projection(text, partial(_each_within, radius))
    return Projection(text, partial(_in_ball, radius, axis))


def _each_within(radius: float, x: Array) -> Array:
    if x.dtype.kind == "c":
        return _in_ball(radius, (), x)
    return _clipped(np.array(-radius), np.array(radius), x)


def _axes(label: str, axis: Any) -> int | tuple[int, ...] | None:
    """An axis, several, or None for all."""
    if axis is None:
        return None
    if isinstance(axis, tuple | list):
        return tuple(whole(label, each, -MOST_AXES, MOST_AXES) for each in axis)
    return whole(label, axis, -MOST_AXES, MOST_AXES)


def _lengths(axis: Any, x: Array) -> Array:
    x = np.abs(x) if x.dtype.kind == "c" else x
    return np.asarray(np.sqrt(np.sum(np.square(x, dtype=np.float64), axis=axis, keepdims=True)))


def _in_ball(radius: float, axis: Any, x: Array) -> Array:
    return np.asarray(x * (radius / np.maximum(_lengths(axis, x), radius)))


def unit_norm(axis: Any = None) -> Projection:
    """Of length 1, as a whole or in slices along axes; zeros become equal numbers.

    With ``axis=()`` each number by itself: complex ones keep their phase alone.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.unit_norm(axis=-1)(np.array([[3.0, 4.0], [0.0, 2.0]]))
        array([[0.6, 0.8],
               [0. , 1. ]])
    """

    axis = _axes("unit_norm: axis", axis)
    return Projection(f"unit_norm(axis={axis!r})", partial(_of_length_one, axis))


def _of_length_one(axis: Any, x: Array) -> Array:
    size = _lengths(axis, x)
    equal = np.ones_like(x) / np.sqrt(x.size / max(size.size, 1))
    return np.where(size > 0, x / np.where(size > 0, size, 1.0), equal)


def simplex(axis: int = -1, total: float = 1.0) -> Projection:
    """Not below 0, and adding up to a total along an axis, as shares and probabilities do.

    Source: Duchi, Shalev-Shwartz, Singer & Chandra 2008, Algorithm 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.simplex()(np.array([0.5, 1.5, -1.0]))
        array([0., 1., 0.])
    """
    total = number("simplex: total", total, 0.0, low_open=True)
    axis = whole("simplex: axis", axis, -MOST_AXES, MOST_AXES)
    text = f"simplex(axis={axis!r}, total={total:g})"
    return Projection(text, partial(_on_simplex, axis, total), real=True)


def _on_simplex(axis: int, total: float, x: Array) -> Array:
    rows = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    if not rows.size:
        return x
    falling = -np.sort(-rows, axis=-1)
    over = np.cumsum(falling, axis=-1) - total
    count = np.arange(1, rows.shape[-1] + 1)
    last = np.count_nonzero(falling - over / count > 0, axis=-1, keepdims=True)
    cut = np.take_along_axis(over, last - 1, axis=-1) / last
    return np.moveaxis(np.maximum(rows - cut, 0), -1, axis)


def orthogonal() -> Projection:
    """A matrix with orthonormal columns, or rows where it has more columns than rows.

    Unitary, if it is complex.

    The nearest one is the product of both orthogonal factors of its singular value decomposition.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.projections.orthogonal()(np.diag([2.0, -3.0]))
        array([[ 1.,  0.],
               [ 0., -1.]])
    """
    return Projection("orthogonal()", _orthonormal)


def _orthonormal(x: Array) -> Array:
    if x.ndim != 2:
        raise ValueError(f"orthogonal: a matrix is needed, got an array of shape {x.shape}")
    wide = np.asarray(x, np.complex128 if x.dtype.kind == "c" else np.float64)
    left, _, right = np.linalg.svd(wide, full_matrices=False)
    return np.asarray(left @ right) + 0.0
