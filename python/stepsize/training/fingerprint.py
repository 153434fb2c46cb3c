"""A fingerprint of training data, by which a resumed run notices that they are others."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from stepsize.arrays import flatten
from stepsize.training.batches import ArrayBatches, Batches

ELEMENTS = 2048  # of each array, spread over all of it, that are looked at


def fingerprint(batches: Batches) -> list[list[Any]] | None:
    """Shape, dtype and a checksum of some elements of each array of the data.

    Of a list or tuple of batches its length, the first batch and the last one are looked at; of
    other iterables nothing, since reading them would use them up: None.
    """
    if isinstance(batches, ArrayBatches):
        return [_of(part) for part in batches.arrays]
    given = batches.given
    if not isinstance(given, list | tuple) or not given:
        return None
    leaves = flatten(given[0])[0] + flatten(given[-1])[0]
    return [["batches", str(len(given)), 0], *map(_of, leaves)]


def _of(part: Any) -> list[Any]:
    if not hasattr(part, "shape"):
        return [type(part).__name__, repr(part)[:80] if isinstance(part, int | float) else "", 0]
    shape, dtype = str(list(part.shape)), str(getattr(part, "dtype", ""))
    if not isinstance(part, np.ndarray) or part.dtype.kind not in "biufcmMSU" or not part.size:
        return [shape, dtype, 0]
    part = part if part.ndim else part[None]
    flat = np.unique(np.linspace(0, part.size - 1, min(part.size, ELEMENTS)).astype(np.int64))
    some = np.ascontiguousarray(np.asarray(part)[np.unravel_index(flat, part.shape)])
    return [shape, dtype, zlib.crc32(some.tobytes())]


def difference(saved: Any, here: list[list[Any]] | None) -> str:
    """What differs between a saved fingerprint and this one, in words; empty where nothing does."""
    if not isinstance(saved, list | tuple) or here is None:
        return ""  # an older file, or data that cannot be looked at
    if len(saved) != len(here):
        return f"{len(here)} arrays are looked at instead of {len(saved)}"
    for i, (old, new) in enumerate(zip(saved, here, strict=True)):
        if list(old) == new if isinstance(old, list | tuple) and len(old) == 3 else True:
            continue
        if list(old[:2]) != new[:2]:
            return f"array {i} is {new[1]}{new[0]} instead of {old[1]!s:.20}{old[0]!s:.40}"
        return f"array {i} holds other values"
    return ""
