"""Values as the bytes of a message: numbers, text, arrays, and dicts, lists and tuples of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from stepsize.arrays import Array
from stepsize.serialization import nested

__all__ = ["dtype_of", "packed", "unpacked"]


def packed(value: Any) -> Array:
    """A value as bytes, of which nothing is run when they are read.

    Example:
        >>> import numpy as np
        >>> value = {"t": (1, 0.1, None), "m": [np.arange(3), "x"]}
        >>> unpacked(packed(value))
        {'t': (1, 0.1, None), 'm': [array([0, 1, 2]), 'x']}
    """
    tensors, tree = nested.pack({"value": value})
    kinds = {name: [one.dtype.name, list(one.shape)] for name, one in tensors.items()}
    head = json.dumps([tree, kinds]).encode()
    parts = [np.ascontiguousarray(one).reshape(-1).view(np.uint8) for one in tensors.values()]
    length = np.array([len(head)], np.int64).view(np.uint8)
    return np.concatenate([length, np.frombuffer(head, np.uint8), *parts])


def unpacked(message: Array) -> Any:
    """The value that `packed` made bytes of."""
    start = 8 + int(message[:8].copy().view(np.int64)[0])
    tree, kinds = json.loads(message[8:start].tobytes())
    tensors = {}
    for name, (kind, shape) in kinds.items():
        dtype = dtype_of(kind)
        stop = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        tensors[name] = message[start:stop].copy().view(dtype).reshape(shape)
        start = stop
    return nested.unpack(tensors, tree)["value"]


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype of that name; bfloat16, which NumPy does not know, is that of ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)
