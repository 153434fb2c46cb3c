"""Gradients as they come: made plain, or refused with the leaf's name."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize.arrays import Array


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
