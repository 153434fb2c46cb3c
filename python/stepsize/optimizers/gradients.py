"""Gradients as they come: made plain, or refused with the leaf's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize.arrays import Array
from stepsize.optimizers.rows import Lent, RowGradient

if TYPE_CHECKING:
    from stepsize.optimizers.base import Optimizer


def gather(optimizer: Optimizer, flat: Sequence[Any], lend: bool) -> list[Any]:
    """The gradients of all leaves as plain arrays, and rows as what a step needs of them."""
    owner = type(optimizer).__name__
    result: list[Any] = []
    optimizer._lent = {}
    leaves = optimizer._structure.leaves
    for i, (path, leaf, value) in enumerate(zip(optimizer.paths, leaves, flat, strict=True)):
        if not isinstance(value, RowGradient):
            result.append(plain(owner, path, leaf, value))
        elif not lend:
            result.append(value.whole(owner, path, leaf))
        elif not optimizer.by_row:
            raise TypeError(
                f"{owner}: the gradient of {path} is a RowGradient, which SGD, Adagrad, Adam and "
                "AdamW take; give an array"
            )
        else:
            rows, grad = value.merged(owner, path, leaf)
            lent = optimizer._lent[i] = Lent(leaf, optimizer._state[i], rows, grad)
            result.append((grad, lent.x, list(lent.slots.values())))
    return result


def plain(owner: str, path: str, leaf: Array, value: Any) -> Array | None:
    """One leaf's gradient as an array the compiled step can read, copied only if it must be."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise TypeError(
                f"{owner}: the gradient of {path} is a {type(value).__name__}, expected an array "
                f"of {leaf.dtype}; convert it with np.asarray(..., np.{leaf.dtype})"
            )
        value = np.asarray(value)
    if value.dtype != leaf.dtype:
        raise TypeError(
            f"{owner}: the gradient of {path} has dtype {value.dtype}, expected {leaf.dtype}; "
            f"convert it with .astype(np.{leaf.dtype})"
        )
    if value.shape != leaf.shape:
        raise ValueError(
            f"{owner}: the gradient of {path} has shape {value.shape}, expected {leaf.shape}"
        )
    return np.require(value, leaf.dtype, ["C", "A"]).reshape(leaf.shape)
