"""Batches that are kept beyond the next one: copies, since loaders fill the same arrays again."""

from __future__ import annotations

import array
import copy
import dataclasses
from collections.abc import Mapping, MutableSequence
from typing import Any

import numpy as np

from stepsize.arrays.tree import map_leaves

REFILLED = (Mapping, MutableSequence, bytearray, array.array)


def owned(batch: Any) -> Any:
    """The batch with copies of what a loader could fill again; what is none stays as it is.

    Copied are arrays and tensors, in their own order of memory, and containers and dataclasses.

    Example:
        >>> x = np.zeros(3)
        >>> kept = owned({"x": x, "name": "first"})
        >>> x[:] = 1
        >>> kept
        {'x': array([0., 0., 0.]), 'name': 'first'}
    """
    return map_leaves(_owned, batch)


def _owned(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return copy.deepcopy(leaf) if leaf.dtype.hasobject else leaf.copy(order="K")
    if callable(getattr(leaf, "clone", None)) and hasattr(leaf, "shape"):
        return leaf.clone()
    if hasattr(leaf, "shape") and callable(getattr(leaf, "copy", None)):
        return leaf.copy()
    instance = dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)
    return copy.deepcopy(leaf) if instance or isinstance(leaf, REFILLED) else leaf
