"""Gradients as they come: made plain, or refused with the leaf's name."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import (
    FLOATS,
    Array,
    Nest,
    as_numpy,
    computed,
    conversion,
    is_narrow,
    refuse_masked,
    view_as_real,
)
from stepsize.optimizers import half
from stepsize.optimizers.internals import Internals
from stepsize.optimizers.loop import OF_LEAVES
from stepsize.optimizers.rule import registered
from stepsize.optimizers.sparse import RowGradient, RowSlice


def gather(parts: Internals, grads: Nest, bind_rows: bool = False) -> list[Any]:
    """The gradients of all leaves as plain arrays, and rows as what a step needs of them."""
    parts.engine.check(parts.host)  # errors below are of gradients, not of what they should fit
    owner, leaves = parts.owner, parts.leaves
    result: list[Any] = []
    leaves.rows = {}
    flat = leaves.flatten(grads)
    for i, (path, leaf, value) in enumerate(zip(leaves.paths, leaves.arrays, flat, strict=True)):
        if not isinstance(value, RowGradient):
            given = plain(owner, path, leaf, value)
            if given is not None and parts.rule.shaped:
                given = half.to_float32(given)
            result.append(given)
        elif not bind_rows:
            result.append(value.whole(owner, path, leaf))
        else:
            _check_rows(parts, path, leaf)
            rows, grad = value.merged(owner, path, leaf)
            if parts.engine.reference:
                leaves.rows[i] = RowSlice(leaf, parts.slots.arrays[i], rows, grad)
            result.append((grad, rows))
    return result


def refused(finite: bool, dtype: Any) -> str:
    """What a gradient that is refused holds, in words."""
    if not finite:
        return "NaN or infinity"
    wide = view_as_real(np.empty(0, computed(np.dtype(dtype)))).dtype
    least = float(np.finfo(wide).max) / 2 ** (_core.headroom - 1)
    return f"numbers of {least:.2g} or more, too near the largest {wide.name} to be added up,"


def _check_rows(parts: Internals, path: str, leaf: Array) -> None:
    """Refuse rows of gradients where the rule or its state cannot move rows alone."""
    start = f"{parts.owner}: the gradient of {path} is a RowGradient, which"
    if parts.options.state_dtype is not None:
        form = parts.options.state_dtype
        raise ValueError(f"{start} needs state_dtype=None, got {form!r}; give an array")
    if leaf.dtype not in FLOATS:
        raise TypeError(
            f"{start} needs parameters of float32 or float64, got {leaf.dtype}; give an array"
        )
    whole = [name for name in OF_LEAVES if any(t.get(name) for t in parts.groups.tables)]
    if whole:
        raise ValueError(f"{start} needs {whole[0]}=None, which sees whole leaves; give an array")
    if not parts.rule.by_row:
        *names, last = [cls.__name__ for cls in registered() if cls.by_row]
        raise TypeError(f"{start} {', '.join(names)} and {last} take; give an array")


def plain(owner: str, path: str, leaf: Array, value: Any) -> Array | None:
    """One leaf's gradient as an array the compiled step can read, copied only if it must be."""
    if value is None:
        return None
    refuse_masked(owner, f"the gradient of {path}", value, "fill it, gradient.filled(0)")
    if isinstance(value, list | tuple):
        raise TypeError(
            f"{owner}: the gradient of {path} is a {type(value).__name__}, expected an array of "
            f"{computed(leaf.dtype)}; convert it with np.asarray(..., np.{computed(leaf.dtype)})"
        )
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise TypeError(
                f"{owner}: the gradient of {path} is a {type(value).__name__}, expected an array "
                f"of {computed(leaf.dtype)}; convert it with "
                f"np.asarray(..., np.{computed(leaf.dtype)})"
            )
        try:
            value = as_numpy(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{owner}: the gradient of {path} is a {type(value).__name__} that NumPy cannot "
                f"read ({error}); convert it to an array of {computed(leaf.dtype)}"
            ) from error
    dtype = computed(leaf.dtype)
    if is_narrow(value.dtype) and dtype == np.float32:
        half.register_bfloat16(value.dtype)
        dtype = value.dtype
    if value.dtype != dtype:
        raise TypeError(
            f"{owner}: the gradient of {path} has dtype {value.dtype}, expected {dtype}; "
            f"{conversion(value.dtype, dtype)}"
        )
    if value.shape != leaf.shape:
        raise ValueError(
            f"{owner}: the gradient of {path} has shape {value.shape}, expected {leaf.shape}"
        )
    return np.require(value, dtype, ["C", "A"]).reshape(leaf.shape)


def bindable(parts: Internals, grads: Nest) -> list[Any]:
    """The gradients as plain arrays in the memory that was given, or an error names the leaf."""
    given = parts.leaves.flatten(grads)
    for path, value in zip(parts.leaves.paths, given, strict=True):
        if isinstance(value, RowGradient):
            raise TypeError(
                f"{parts.owner}: the gradient of {path} is a RowGradient, which cannot be bound; "
                "pass it to step"
            )
    taken = gather(parts, grads)
    for path, value, array in zip(parts.leaves.paths, given, taken, strict=True):
        same = isinstance(value, np.ndarray) and value.ctypes.data == array.ctypes.data
        if array is not None and not same:
            raise ValueError(
                f"{parts.owner}: the gradient of {path} cannot be bound, since it has to be copied "
                "at every step; bind a C-contiguous numpy array, or pass it to step"
            )
    return taken
