"""A checksum by which ranks compare what must be the same on all of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["digest"]


def digest(nest: Any) -> int:
    """A checksum of numbers, text and arrays.

    Example:
        >>> digest({"lr": 0.1}) == digest({"lr": 0.1}), digest([0.0]) == digest([-0.0])
        (True, False)
    """
    if isinstance(nest, Mapping):
        return digest([part for pair in nest.items() for part in pair])
    if isinstance(nest, list | tuple):
        return zlib.crc32(repr([digest(part) for part in nest]).encode())
    if isinstance(nest, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(nest).tobytes())
    return zlib.crc32(repr(nest).encode())
