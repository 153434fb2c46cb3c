"""Blockwise quantization of state. The twin of cpp/kernels/quantization.hpp.

``"bfloat16"`` keeps the upper half of a float32. ``"int8"`` keeps one byte a number and, for every
block of 256 numbers of a leaf, a float32 scale s, a power of two. A code is bits of a float32
counted from those of the scale::

    bit       7   6 5 4   3 2 1 0
    signed    S   E E E   M M M M     S sign, E exponent above s, M mantissa
    unsigned  E   E E E   M M M M     for second moments, which are >= 0

    |x| = s (2^E (1 + M / 16) - share),   share = 1 (signed) or 31/32 (unsigned)

Subtracting the share makes the codes go on evenly below s. The signed code 0 is 0; the unsigned
code 0 is s / 32, so that a second moment does not vanish under a first. Both ways of quantizing
round stochastically, which is unbiased (Gupta et al. 2015, arXiv:1502.02551); the random bits
depend on update, leaf, slot and element alone. Whole blocks are interleaved: the first code of
each quarter comes first, then the second of each, and so on; a part of a block stays in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed

FORMS = (None, "bfloat16", "int8")

BLOCK_SIZE = _core.tile
_QUARTERS = (4, BLOCK_SIZE // 4)
_MAX_SLOTS = 8
_LARGEST_BFLOAT16 = 0x7F7F0000
_INFINITE = 0x7F800000
_LEAST_SCALE = 0x04000000  # so that no code is made of subnormal numbers
_SIGN = np.uint32(0x80000000)
_DROPPED = 19  # bits of a float32 below those of a code
WORD = (1 << 64) - 1
_KEY_STEP = np.uint32(0x9E3779B9)
_MASKS = np.array([0, 0x5A5A5, 0x33CCC, 0x69969], np.uint32)  # each quarter XORs one into the bits


class _Format(NamedTuple):
    """What a code of one byte stands for; see the twin."""

    doublings: int
    sign: int
    share: np.float32


_SIGNED = _Format(7, 0x80, np.float32(1))
_UNSIGNED = _Format(15, 0, np.float32(31 / 32))


def _format_of(codes: Array) -> _Format:
    return _SIGNED if codes.dtype == np.int8 else _UNSIGNED


def kind_of(slot: str) -> str:
    """What the numbers of a slot are: signed, squares or exact."""
    return getattr(slot, "kind", "signed")


def dtype_of(slot: str, leaf: Array, form: str | None) -> Any:
    """The dtype in which the numbers or codes of a slot lie in memory."""
    if form is None or kind_of(slot) == "exact":
        return computed(leaf.dtype)
    if form == "bfloat16":
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if kind_of(slot) == "squares" else np.int8)


def blocks(size: int) -> int:
    """How many blocks, each with a scale, that many numbers have."""
    return -(-size // BLOCK_SIZE)


def dequantize(codes: Array, scales: Array | None, dtype: Any) -> Array:
    """The numbers that flat codes stand for."""
    if codes.dtype.kind == "f":
        return codes
    if codes.dtype == np.uint16:
        return (codes.astype(np.uint32) << 16).view(np.float32).astype(dtype)
    assert scales is not None
    form = _format_of(codes)
    scale = np.repeat(scales, BLOCK_SIZE)[: codes.size]
    q = _interleave(codes.view(np.uint8), _QUARTERS[::-1]).astype(np.uint32)
    size = ((q & (0xFF ^ form.sign)) << _DROPPED) + scale.view(np.uint32)
    level = size.view(np.float32) - scale * form.share
    found: Array = np.where(q & form.sign, 0 - level, level).astype(dtype)
    return found


def quantize(values: Array, codes: Array, scales: Array | None, key: int) -> None:
    """Round flat numbers stochastically to codes, and set the scales."""
    with np.errstate(all="ignore"):
        whole = np.zeros((blocks(values.size), BLOCK_SIZE), np.float32)
        whole.reshape(-1)[: values.size] = values
        random = random_bits(key, whole.size).reshape(whole.shape)
        if codes.dtype == np.uint16:
            found = _to_bfloat16(whole, random)
        else:
            assert scales is not None
            form = _format_of(codes)
            scales[...] = _scales(form, whole)
            found = _to_bytes(form, whole, scales[:, None], random).view(codes.dtype)
        codes[...] = found.reshape(-1)[: codes.size]
        if codes.itemsize == 1:
            codes[...] = _interleave(codes, _QUARTERS)


def _interleave(codes: Array, shape: tuple[int, int]) -> Array:
    """The codes of whole blocks with rows and columns exchanged; the rest as it is."""
    whole = codes.size // BLOCK_SIZE * BLOCK_SIZE
    tables = codes[:whole].reshape(-1, *shape).swapaxes(1, 2)
    return np.concatenate([tables.reshape(-1), codes[whole:]])


def rounding_key(t: int, leaf: int, slot: int) -> int:
    """What the random bits of a slot depend on besides the element, at update ``t`` of its leaf."""
    found: int = hash64(hash64(t) + leaf * _MAX_SLOTS + slot & WORD)
    return found


def parameter_key(t: int, leaf: int) -> int:
    """The same for the parameters of a leaf."""
    found: int = hash64(~(hash64(t) + leaf * _MAX_SLOTS) & WORD)
    return found


def hash64(a: Any) -> Any:
    """Finaliser of splitmix64. Steele, Lea & Flood 2014, OOPSLA, figure 17."""
    a = (a ^ a >> 30) * 0xBF58476D1CE4E5B9 & WORD
    a = (a ^ a >> 27) * 0x94D049BB133111EB & WORD
    return a ^ a >> 31


def random_bits(key: int, size: int) -> Array:
    """32 random bits for each of so many numbers."""
    starts = [hash64(key + block & WORD) & 0xFFFFFFFF for block in range(blocks(size))]
    shifts: Array = np.array(starts, np.uint32)[:, None]
    bits: Array = shifts + np.arange(BLOCK_SIZE, dtype=np.uint32) * _KEY_STEP
    return bits.reshape(-1)[:size]


def _scales(form: _Format, whole: Array) -> Array:
    absmax = (whole.view(np.uint32) & ~_SIGN).max(axis=1, initial=0)
    most = (15 << _DROPPED) - (0x800000 >> form.doublings)
    bits = (absmax + np.uint32(0x7FFFFF - most)) & np.uint32(_INFINITE)
    scale = np.maximum(bits.astype(np.int64) - (form.doublings << 23), _LEAST_SCALE)
    scale = np.where(bits >= _INFINITE, 0x7FC00000, scale)
    found: Array = np.where(absmax == 0, 0, scale).astype(np.uint32)
    return found.view(np.float32)


def _to_bfloat16(whole: Array, random: Array) -> Array:
    bits = whole.view(np.uint32)
    added = np.where((bits & 0x7FFFFFFF) < _LARGEST_BFLOAT16, random >> 16, 0).astype(np.uint32)
    moved: Array = bits + added
    return moved >> 16


def _to_bytes(form: _Format, whole: Array, scales: Array, random: Array) -> Array:
    low = scales.view(np.int32)
    size = np.maximum((abs(whole) + scales * form.share).view(np.int32), low)
    shared = random[:, None, : _QUARTERS[1]] >> (32 - _DROPPED) ^ _MASKS[:, None]
    above = (size - low).astype(np.uint32) + shared.reshape(random.shape)
    sign = np.where(np.signbit(whole), form.sign, 0)
    coded: Array = np.where(scales > 0, above >> _DROPPED | sign, 0).astype(np.uint8)
    return coded


def named_scales(scales: Mapping[str, Array]) -> dict[str, Array]:
    """The scales under the names they have in a state dict."""
    return {f"{slot}_scale": values for slot, values in scales.items()}
