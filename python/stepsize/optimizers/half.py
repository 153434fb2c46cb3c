"""Half precision: parameters and gradients of float16 and bfloat16. Twin of cpp/kernels/half.hpp.

They are computed with in float32: read exactly, written rounded to nearest even. With master
weights (Micikevicius et al. 2018, arXiv:1710.03740) each parameter also has a float32 that it is
the rounding of. A parameter that no longer is has been set by somebody, and its master follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed, is_narrow

_SIGN = np.uint32(0x80000000)
_INFINITE = np.uint32(0x7F800000)


def register_bfloat16(dtype: Any) -> None:
    """Make a dtype known to the compiled step, which cannot ask ml_dtypes for it."""
    if dtype.name == "bfloat16":
        _core.register_bfloat16(dtype)


def make_master(leaf: Array, wanted: bool) -> Array | None:
    """The float32 master weights of a half-precision leaf, or None."""
    if not is_narrow(leaf.dtype):
        return None
    register_bfloat16(leaf.dtype)
    if not wanted:
        return None
    numbers: Array = _core.allocate(4 * leaf.size).view(np.float32).reshape(leaf.shape)
    numbers[...] = to_float32(leaf)
    return numbers


def to_float32(values: Array) -> Array:
    """The same numbers in the type they are computed in."""
    return values.astype(computed(values.dtype)) if is_narrow(values.dtype) else values


def load_master(leaf: Array, masters: Array | None) -> Array:
    """What a step computes with: the leaf, or its master weights in float32."""
    if not is_narrow(leaf.dtype) or masters is None:
        return to_float32(leaf)
    kept = round_to_half(masters, leaf.dtype).view(np.uint16) == leaf.view(np.uint16)
    masters[...] = np.where(kept, masters, to_float32(leaf))
    return masters


def round_to_half(values: Array, dtype: Any) -> Array:
    """The nearest half-precision numbers, ties to even; every NaN becomes the same NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    size = bits & ~_SIGN
    if dtype.name == "bfloat16":
        near = (size + 0x7FFF + (size >> 16 & 1)) >> 16
        codes = np.where(size > _INFINITE, 0x7FC0, near)
    else:
        with np.errstate(over="ignore"):
            near = size.view(np.float32).astype(np.float16).view(np.uint16)
        codes = np.where(size > _INFINITE, 0x7E00, near)
    found: Array = (codes | (bits & _SIGN) >> 16).astype(np.uint16).view(dtype)
    return found
