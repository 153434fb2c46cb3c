"""Half precision: parameters and gradients of float16 and bfloat16. Twin of cpp/kernels/half.hpp.

They are computed with in float32: read exactly, written rounded to nearest even or stochastically.
With master weights (Micikevicius et al. 2018, arXiv:1710.03740) each parameter also has a float32
that it is the rounding of. A parameter that no longer is has been set by somebody, and its master
follows. Split master weights keep the lower bits alone (Zamirai et al. 2020, arXiv:2010.06192,
hold such a correction as a bfloat16): a bfloat16 p and a whole number k, which is what the bits of
a float32 have more than those of p with 16 zeros behind them::

    bits(master) = 2^16 bits(p) + k,           -2^15 <= k < 2^15    "split", 2 bytes
    bits(master) = 2^16 bits(p) + 2^8 k,       -2^7 <= k < 2^7      "split8", 1 byte

So p is the nearest bfloat16, and a tie goes away from 0: to even, two float32 would have the same
parts. "split8" first rounds the float32 to 24 bits, to nearest even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed, is_narrow
from stepsize.optimizers.quantization import random_bits

LOW = {"split": np.int16, "split8": np.int8}  # what split master weights have besides

_LARGEST = {"float16": 0x477FE000, "bfloat16": 0x7F7F0000}
_TINY_FLOAT16 = 0x38800000  # below it float16 has the places of 2^-24
_SIGN = np.uint32(0x80000000)
_INFINITE = np.uint32(0x7F800000)


def register_bfloat16(dtype: Any) -> None:
    """Make a dtype known to the compiled step, which cannot ask ml_dtypes for it."""
    if dtype.name == "bfloat16":
        _core.register_bfloat16(dtype)


def make_master(leaf: Array, wanted: bool | str) -> Array | None:
    """The master weights of a half-precision leaf, whole or their lower bits, or None."""
    if not is_narrow(leaf.dtype):
        return None
    register_bfloat16(leaf.dtype)
    if not wanted:
        return None
    dtype = np.dtype(LOW[wanted] if isinstance(wanted, str) else np.float32)
    numbers: Array = _core.allocate(dtype.itemsize * leaf.size).view(dtype).reshape(leaf.shape)
    numbers[...] = 0 if is_split(numbers) else to_float32(leaf)
    return numbers


def is_split(master: Array | None) -> bool:
    """Whether these are lower bits, rather than numbers."""
    return master is not None and master.dtype.kind == "i"


def named_master(master: Array | None) -> dict[str, Array]:
    """Master weights under the name they have in a state dict."""
    if master is None:
        return {}
    return {"master_low" if is_split(master) else "master": master}


def to_float32(values: Array) -> Array:
    """The same numbers in the type they are computed in, and a NaN quiet."""
    if not is_narrow(values.dtype):
        return values
    found: Array = values.astype(computed(values.dtype))
    if values.dtype == np.float16:
        with np.errstate(invalid="ignore"):
            found *= np.float32(1)  # not every processor makes a NaN quiet when it converts
    return found


def load_master(leaf: Array, masters: Array | None) -> Array:
    """What a step computes with: the leaf, or its master weights in float32."""
    if not is_narrow(leaf.dtype) or masters is None:
        return to_float32(leaf)
    if is_split(masters):
        return _joined(leaf.view(np.uint16), masters)
    kept = round_to_half(masters, leaf.dtype).view(np.uint16) == leaf.view(np.uint16)
    masters[...] = np.where(kept, masters, to_float32(leaf))
    return masters


def store(leaf: Array, masters: Array | None, values: Array, key: int | None) -> None:
    """Write what a step computed: to nearest, by split, or stochastically where there is a key."""
    values = values.reshape(leaf.shape)
    if masters is not None and is_split(masters):
        codes, masters[...] = _split(values, masters.dtype)
        leaf[...] = codes.view(leaf.dtype)
    elif key is not None:
        leaf[...] = _round_randomly(values, leaf.dtype, key)
    else:
        leaf[...] = round_to_half(values, leaf.dtype)


def _joined(codes: Array, low: Array) -> Array:
    """Master weights; parts that none has are those of 0, infinity or NaN that somebody has set."""
    size = (codes & 0x7FFF).astype(np.uint32) << 16
    moved = size + (low.astype(np.int32) << 16 - 8 * low.itemsize).view(np.uint32)
    kept = np.where(moved > _INFINITE, size, moved)
    found: Array = (kept | (codes & 0x8000).astype(np.uint32) << 16).view(np.float32)
    return found


def _split(values: Array, dtype: Any) -> tuple[Array, Array]:
    """The two bytes of the nearest bfloat16, and the lower bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    dropped = 16 - 8 * dtype.itemsize
    whole = bits & ~_SIGN
    half = 0x7F + (whole >> dropped & 1) if dropped else 0
    size = whole + half >> dropped << dropped
    nan = whole > _INFINITE
    high = np.where(nan, 0x7FC0, size + 0x8000 >> 16).astype(np.uint32)
    low = np.where(nan, 0, (size - (high << 16)).view(np.int32) >> dropped)
    return (high | (bits & _SIGN) >> 16).astype(np.uint16), low.astype(dtype)


def _round_randomly(values: Array, dtype: Any, key: int) -> Array:
    """Half-precision numbers whose mean are the values; every NaN becomes the same NaN.

    Of float16 below 2^-14 parts smaller than 2^-37 are left out.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    size = bits & ~_SIGN
    random = random_bits(key, bits.size).reshape(bits.shape)
    narrow = dtype == np.float16
    dropped, nan = (13, 0x7E00) if narrow else (16, 0x7FC0)
    added = np.where(size < _LARGEST[dtype.name], random >> 32 - dropped, 0).astype(np.uint32)
    units = size
    if narrow:
        tiny = np.where(size < _TINY_FLOAT16, size, 0).astype(np.uint32).view(np.float32)
        fixed = (tiny * np.float32(2.0**37)).astype(np.uint32)
        units = np.where(size < _TINY_FLOAT16, fixed, size - np.uint32(112 << 23))
    near = units + added >> dropped
    if narrow:
        near = np.where(size < 0x47800000, near, 0x7C00)
    codes = np.where(size > _INFINITE, nan, near)
    found: Array = (codes | (bits & _SIGN) >> 16).astype(np.uint16).view(dtype)
    return found


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
