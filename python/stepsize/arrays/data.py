"""Data sets: tuples of arrays with one row per sample."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from stepsize.arrays.types import Array


def data_set(label: str, data: Any) -> tuple[Any, ...] | None:
    """The arrays of one data set, lists of numbers beside them made arrays; None for batches.

    A tuple with an array in it is one data set. Without any it is taken as a row of batches, as
    every other iterable is.

    Raises:
        TypeError, ValueError: a part is neither an array nor a list of numbers; it is named.

    Example:
        >>> data_set("train", (np.zeros((2, 3)), [0, 1]))[1]
        array([0, 1])
        >>> data_set("train", [np.zeros(3)]) is None
        True
    """
    if not isinstance(data, tuple) or not any(hasattr(part, "shape") for part in data):
        return None
    return tuple(
        part if hasattr(part, "shape") else _numbers(f"{label}[{i}]", part)
        for i, part in enumerate(data)
    )


def _numbers(label: str, part: Any) -> Array:
    found: Array | None = None
    if isinstance(part, list | tuple | range):
        try:
            found = np.asarray(part)
        except (TypeError, ValueError):
            raise ValueError(
                f"{label} is a {type(part).__name__} of rows of different lengths or kinds; give "
                "an array with one row per sample"
            ) from None
    if found is None or found.dtype.kind not in "biufc":
        what = f"a {type(part).__name__}" + (f" of {found.dtype}" if found is not None else "")
        raise TypeError(
            f"{label} is {what}, expected an array or a list of numbers, since it stands beside "
            "arrays; give batches as a list"
        )
    return found


def refuse_unpacked(label: str, data: Any) -> None:
    """Refuse a list that reads as one data set, since it would be taken as a row of batches.

    That is a list of arrays, or lists of numbers beside arrays, of as many rows, whose rows have
    different shapes, as those of ``[X, y]``. Two rows of numbers, or two arrays of one shape and
    different dtypes, may be either, and a warning says how they are taken.

    Example:
        >>> refuse_unpacked("fit: train", [np.zeros((8, 3)), np.zeros(8)])
        Traceback (most recent call last):
        ...
        TypeError: fit: train is a list of 2 arrays of 8 rows each, which is one data set: give a \
tuple, (x, y); where they are 2 batches indeed, give a function that returns the list
    """
    if not isinstance(data, list):
        _warn_of_one_array(label, data)
        return
    if len(data) < 2:
        return
    if not any(hasattr(part, "shape") for part in data[:4]):
        return
    shapes = [_shape(part) for part in data[:9]]
    if None in shapes or len({shape[0] for shape in shapes if shape}) != 1:
        return
    rows = shapes[0][0]  # type: ignore[index]
    if len(set(shapes)) > 1 and rows > 1 and len(data) < 9:
        raise TypeError(
            f"{label} is a list of {len(data)} arrays of {rows} rows each, which is one data set: "
            f"give a tuple, (x, y); where they are {len(data)} batches indeed, give "
            "a function that returns the list"
        )
    dtypes = {getattr(part, "dtype", None) for part in data}
    if len(data) == 2 and rows > 1 and (len(shapes[0]) == 1 or len(dtypes) > 1):  # type: ignore[arg-type]
        warnings.warn(
            f"{label} is a list of 2 arrays of the same shape {shapes[0]}, taken as 2 batches; for "
            "one data set give a tuple, (x, y), and for batches without this warning a function "
            "that returns the list",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_one_array(label: str, data: Any) -> None:
    """Warn where one array of rows is given, each of which would be a batch."""
    shape = _shape(data) if hasattr(data, "shape") else None
    if shape is not None and len(shape) < 3 and shape[0] > 1:
        warnings.warn(
            f"{label} is one array of shape {shape}, taken as {shape[0]} batches of one row each; "
            "for batches of its rows give a tuple, (x,), and for batches of one row without this "
            "warning a function that returns it",
            UserWarning,
            stacklevel=5,
        )


def _shape(part: Any) -> tuple[int, ...] | None:
    """The shape of an array, or of a list of numbers beside one; None for what has no rows."""
    if not hasattr(part, "shape"):
        return (len(part),) if _is_row(part) and not isinstance(part[0], list) else None
    try:
        shape = tuple(part.shape)
    except TypeError:
        return None
    return shape or None


def listed(name: str, data: Any) -> str | None:
    """What to say where the first of such batches fails: they may have been meant as one data set.

    None where nothing suggests that.
    """
    several = isinstance(data, list | tuple) and len(data) > 1
    if several and all(hasattr(part, "shape") for part in data):
        what = f"a {type(data).__name__} of {len(data)} arrays"
    elif several and all(hasattr(p, "shape") or _is_row(p) for p in data):
        what = f"a {type(data).__name__} of {len(data)} arrays and lists of numbers"
    elif getattr(data, "shape", ()):
        return (
            f"{name} is one array, taken as {len(data)} batches along its first axis; for "
            "batches of its rows give a tuple, (x,)"
        )
    else:
        return None
    return (
        f"{name} is {what}, taken as {len(data)} batches; for one data set give a "
        "tuple of arrays (x, y), or batches as a list [(x, y), ...]"
    )


def _is_row(part: Any) -> bool:
    """Whether something is a list of numbers, or of rows of numbers."""
    first = part[0] if isinstance(part, list) and part else None
    if isinstance(first, list) and first:
        first = first[0]
    return isinstance(first, int | float | np.number)
