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


def inward(side: Array, name: str, towards: int) -> Array:
    """The nearest numbers of a dtype that are not below a bound, or not above one.

    They are in the type that they are computed in. The dtype goes by its name, so that bfloat16
    needs no package; `towards` is 1 for a lower bound and -1 for an upper one.

    Example:
        >>> float(inward(np.array(0.1), "float32", 1)), float(inward(np.array(0.1), "bfloat16", -1))
        (0.10000000149011612, 0.099609375)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if name == "bfloat16":
            codes = _bfloat16_codes(np.asarray(side, np.float32).view(np.uint32)).view(np.int16)
            # Neighbours differ by 1, upwards from 0 on either side of it.
            beyond = np.where(codes >= 0, codes + towards, codes - towards).astype(np.int16)
            near, next_one = (_from_bfloat16(numbers) for numbers in (codes, beyond))
        else:
            near = np.asarray(side).astype(name)
            next_one = np.nextafter(near, near.dtype.type(towards * np.inf))
        outer = near.astype(np.float64) < side if towards > 0 else near.astype(np.float64) > side
    found = np.where(outer, next_one, near)
    return found.astype(np.float32) if name == "float16" else found


def _bfloat16_codes(bits: Array) -> Array:
    """The two bytes of the nearest bfloat16, ties to even, of the bits of float32."""
    size = bits & ~_SIGN
    near = (size + 0x7FFF + (size >> 16 & 1)) >> 16
    codes: Array = (np.where(size > _INFINITE, 0x7FC0, near) | (bits & _SIGN) >> 16).astype(
        np.uint16
    )
    return codes


def _from_bfloat16(codes: Array) -> Array:
    return (codes.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def round_to_half(values: Array, dtype: Any) -> Array:
    """The nearest half-precision numbers, ties to even; every NaN becomes the same NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    if dtype.name == "bfloat16":
        return _bfloat16_codes(bits).view(dtype)
    size = bits & ~_SIGN
    with np.errstate(over="ignore"):
        near = size.view(np.float32).astype(np.float16).view(np.uint16)
    codes = np.where(size > _INFINITE, 0x7E00, near)
    found: Array = (codes | (bits & _SIGN) >> 16).astype(np.uint16).view(dtype)
    return found
