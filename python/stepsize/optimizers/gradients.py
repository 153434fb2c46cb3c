"""Gradients as they come: made plain, or refused with the leaf's name."""

from __future__ import annotations

import math
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
    leaves = parts.leaves
    leaves.rows = {}
    flat = leaves.flatten(grads)
    return [_gathered(parts, i, value, bind_rows) for i, value in enumerate(flat)]


def gather_leaf(parts: Internals, leaf: int, value: Any) -> Any:
    """The gradient of one leaf, number ``leaf``, as `gather` gives it with rows."""
    parts.engine.check(parts.host)
    parts.leaves.rows = {}
    return _gathered(parts, leaf, value, bind_rows=True)


def _gathered(parts: Internals, i: int, value: Any, bind_rows: bool) -> Any:
    owner, path, leaf = parts.owner, parts.leaves.paths[i], parts.leaves.arrays[i]
    if not isinstance(value, RowGradient):
        given = plain(owner, path, leaf, value)
        return half.to_float32(given) if given is not None and parts.rule_of(i).shaped else given
    if not bind_rows:
        return value.whole(owner, path, leaf)
    _check_rows(parts, i, path, leaf)
    rows, grad = value.merged(owner, path, leaf)
    if parts.engine.reference:
        parts.leaves.rows[i] = RowSlice(leaf, parts.slots.arrays[i], rows, grad)
    return grad, rows


def refused(finite: bool, dtype: Any) -> str:
    """What a gradient that is refused holds, in words."""
    if not finite:
        return "NaN or infinity"
    wide = view_as_real(np.empty(0, computed(np.dtype(dtype)))).dtype
    least = float(np.finfo(wide).max) / 2 ** (_core.headroom - 1)
    return f"numbers of {least:.2g} or more, too near the largest {wide.name} to be added up,"


def is_usable(parts: Internals, gradient: Array) -> bool:
    """Whether the compiled step takes all numbers of a gradient: ``usable`` of cpp/bind/engine."""
    easy = parts.options.clip_norm or parts.options.clip_value
    easy = easy or parts.engine.loss_scale >= 1 << _core.headroom
    numbers = view_as_real(gradient)
    info = np.finfo(numbers.dtype)
    with np.errstate(over="ignore"):
        limit = np.ldexp(info.dtype.type(1), info.maxexp - (0 if easy else _core.headroom - 1))
    return bool((np.abs(numbers) < limit).all())


def _check_rows(parts: Internals, i: int, path: str, leaf: Array) -> None:
    """Refuse rows of gradients where the rule or its state cannot move rows alone."""
    start = f"{parts.owner}: the gradient of {path} is a RowGradient, which"
    rule = parts.rule_of(i)
    form = parts.slots.forms[i]
    if form is not None:
        raise ValueError(f"{start} needs state_dtype=None, got {form!r}; give an array")
    if leaf.dtype not in FLOATS:
        raise TypeError(
            f"{start} needs parameters of float32 or float64, got {leaf.dtype}; give an array"
        )
    table = parts.groups.table_of(i)
    whole = [name for name in OF_LEAVES if table.get(name) is not None]
    if whole:
        raise ValueError(f"{start} needs {whole[0]}=None, which sees whole leaves; give an array")
    if not rule.by_row:
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
            # What np.asarray makes of a sparse matrix is no matrix.
            cure = f"np.asarray(..., np.{computed(leaf.dtype)})"
            cure = ".toarray(), or give its rows as a ss.RowGradient" if _sparse(value) else cure
            raise TypeError(
                f"{owner}: the gradient of {path} is a {type(value).__name__}, expected an array "
                f"of {computed(leaf.dtype)}; convert it with {cure}"
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
            f"{_into(value.shape, leaf.shape)}"
        )
    return np.require(value, dtype, ["C", "A"]).reshape(leaf.shape)


def _sparse(value: Any) -> bool:
    """Whether it is a matrix or array of scipy.sparse, or one like them."""
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def _into(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What makes a gradient of one shape one of another, where that can be told."""
    if len(shape) > 1 and shape[::-1] == wanted:
        return "; transpose it, or the product that makes it"
    if math.prod(shape) == math.prod(wanted):
        return "; give it the shape of its leaf, as .reshape does"
    if len(shape) == len(wanted) + 1 and shape[1:] == wanted:
        return "; add up its rows, as .sum(axis=0) does"
    return ""


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
