"""Gradients as they come: made plain, or refused with the leaf's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.arrays import Array, Nest, computed, is_narrow
from stepsize.optimizers import half
from stepsize.optimizers.groups import ungroup
from stepsize.optimizers.sparse import Lent, RowGradient

if TYPE_CHECKING:
    from stepsize.optimizers.optimizer import Optimizer


def gather(optimizer: Optimizer, flat: Sequence[Any], lend: bool) -> list[Any]:
    """The gradients of all leaves as plain arrays, and rows as what a step needs of them."""
    owner = type(optimizer).__name__
    result: list[Any] = []
    optimizer._lent = {}
    leaves = optimizer._structure.leaves
    for i, (path, leaf, value) in enumerate(zip(optimizer.paths, leaves, flat, strict=True)):
        if not isinstance(value, RowGradient):
            given = plain(owner, path, leaf, value)
            if given is not None and optimizer.shaped:
                given = half.widened(given)
            result.append(given)
        elif not lend:
            result.append(value.whole(owner, path, leaf))
        elif optimizer._options.state_dtype is not None:
            raise ValueError(
                f"{owner}: the gradient of {path} is a RowGradient, which needs "
                f"state_dtype=None, got {optimizer._options.state_dtype!r}; give an array"
            )
        elif is_narrow(leaf.dtype):
            raise TypeError(
                f"{owner}: the gradient of {path} is a RowGradient, which needs parameters of "
                f"float32 or float64, got {leaf.dtype}; give an array"
            )
        elif not optimizer.by_row:
            raise TypeError(
                f"{owner}: the gradient of {path} is a RowGradient, which {_sparse_rules()} "
                "take; give an array"
            )
        else:
            rows, grad = value.merged(owner, path, leaf)
            lent = optimizer._lent[i] = Lent(leaf, optimizer._state[i], rows, grad)
            result.append((grad, lent.x, list(lent.slots.values())))
    return result


def _sparse_rules() -> str:
    """The rules that update rows without the others, for a message."""
    from stepsize.optimizers.optimizer import registry  # it imports this module

    *names, last = [cls.__name__ for cls in registry() if cls.by_row]
    return f"{', '.join(names)} and {last}"


def plain(owner: str, path: str, leaf: Array, value: Any) -> Array | None:
    """One leaf's gradient as an array the compiled step can read, copied only if it must be."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise TypeError(
                f"{owner}: the gradient of {path} is a {type(value).__name__}, expected an array "
                f"of {computed(leaf.dtype)}; convert it with "
                f"np.asarray(..., np.{computed(leaf.dtype)})"
            )
        value = np.asarray(value)
    dtype = computed(leaf.dtype)
    if is_narrow(value.dtype) and dtype == np.float32:
        half.know(value.dtype)
        dtype = value.dtype
    if value.dtype != dtype:
        raise TypeError(
            f"{owner}: the gradient of {path} has dtype {value.dtype}, expected {dtype}; "
            f"convert it with .astype(np.{dtype})"
        )
    if value.shape != leaf.shape:
        raise ValueError(
            f"{owner}: the gradient of {path} has shape {value.shape}, expected {leaf.shape}"
        )
    return np.require(value, dtype, ["C", "A"]).reshape(leaf.shape)


def bindable(optimizer: Optimizer, grads: Nest) -> list[Any]:
    """The gradients as plain arrays in the memory that was given, or an error names the leaf."""
    owner = type(optimizer).__name__
    given = optimizer._structure.flatten(ungroup(grads) if optimizer._grouped else grads)
    plain = gather(optimizer, given, lend=False)
    for path, value, taken in zip(optimizer.paths, given, plain, strict=True):
        same = isinstance(value, np.ndarray) and value.ctypes.data == taken.ctypes.data
        if taken is not None and not same:
            raise ValueError(
                f"{owner}: the gradient of {path} cannot be bound, since it has to be copied at "
                "every step; bind a C-contiguous numpy array, or pass it to step"
            )
    return plain
