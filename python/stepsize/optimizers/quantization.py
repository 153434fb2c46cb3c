"""State in fewer bytes: codes, scales and rounding at random. The twin of cpp/core/storage.hpp.

``"bfloat16"`` keeps the upper half of a float32. ``"int8"`` keeps one byte a number and, for every
256 numbers of a leaf, a float32 scale, the power of two that the lowest code is counted from. Its
codes too are bits of a float32, 16 to each doubling. A slot that has both signs spends one bit on
them and reaches from seven doublings below its largest magnitude evenly on to 0; one that has none
reaches from fifteen below evenly on to a thirty-second of the scale. It is never 0, so that a
second moment does not vanish under a first moment. All round up or down at random and are right
on average; the draws depend on update, leaf, slot and element alone. Of 256 codes the first of
each quarter come first, then the second of each, and so on; fewer stay in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepsize import _core
from stepsize.arrays import Array, computed

if TYPE_CHECKING:
    from stepsize.optimizers.optimizer import Optimizer

FORMS = (None, "bfloat16", "int8")

_TILE = _core.tile
_QUARTERS = (4, _TILE // 4)
_MAX_SLOTS = 8
_WORD = (1 << 64) - 1
_LARGEST_BFLOAT16 = 0x7F7F0000
_INFINITE = 0x7F800000
_LEAST_UNIT = 0x04000000
_SIGN = np.uint32(0x80000000)
_DROPPED = 19  # bits
_TURNED_ROUND = np.array([0, 0x5A5A5, 0x33CCC, 0x69969], np.uint32)  # of a draw, by quarter


class _Code(NamedTuple):
    """What a byte stands for; see the twin."""

    doublings: int
    sign: int
    share: np.float32


_SIGNED = _Code(7, 0x80, np.float32(1))
_UNSIGNED = _Code(15, 0, np.float32(31 / 32))


def _code_of(codes: Array) -> _Code:
    return _SIGNED if codes.dtype == np.int8 else _UNSIGNED


def _kind(slot: str) -> str:
    return getattr(slot, "kind", "signed")


def dtype_of(optimizer: Optimizer, slot: str, leaf: Array) -> Any:
    """The dtype in which the numbers or codes of a slot lie in memory."""
    form = optimizer._options.state_dtype
    if form is None or _kind(slot) == "exact":
        return computed(leaf.dtype)
    if form == "bfloat16":
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if _kind(slot) == "squares" else np.int8)


def check(optimizer: Optimizer) -> None:
    """Refuse codes for rules that read their state twice, or whose state has to be exact."""
    form, owner = optimizer._options.state_dtype, type(optimizer).__name__
    if form is None:
        return
    kinds = {_kind(slot) for values in optimizer._tables for slot in optimizer.variant(values)[1]}
    passes = optimizer.scope is not None or optimizer.shaped
    if passes or not optimizer.accelerated or kinds == {"exact"}:
        raise ValueError(
            f"{owner}: state_dtype must be None for this rule, whose state has to be exact, got "
            f"{form!r}; leave it out, or choose a rule such as AdamW"
        )


def tiles(size: int) -> int:
    """How many scales that many codes have."""
    return -(-size // _TILE)


def read(codes: Array, scales: Array | None, dtype: Any) -> Array:
    """The numbers that flat codes stand for."""
    if codes.dtype.kind == "f":
        return codes
    if codes.dtype == np.uint16:
        return (codes.astype(np.uint32) << 16).view(np.float32).astype(dtype)
    assert scales is not None
    code = _code_of(codes)
    unit = np.repeat(scales, _TILE)[: codes.size]
    q = _turned(codes.view(np.uint8), _QUARTERS[::-1]).astype(np.uint32)
    size = ((q & (0xFF ^ code.sign)) << _DROPPED) + unit.view(np.uint32)
    level = size.view(np.float32) - unit * code.share
    found: Array = np.where(q & code.sign, 0 - level, level).astype(dtype)
    return found


def write(values: Array, codes: Array, scales: Array | None, noise: int) -> None:
    """Round flat numbers to codes, and set the scales."""
    with np.errstate(all="ignore"):
        whole = np.zeros((tiles(values.size), _TILE), np.float32)
        whole.reshape(-1)[: values.size] = values
        draws = _draws(noise, len(whole))
        if codes.dtype == np.uint16:
            found = _bfloat16(whole, draws)
        else:
            assert scales is not None
            code = _code_of(codes)
            scales[...] = _scales(code, whole)
            found = _bytes(code, whole, scales[:, None], draws).view(codes.dtype)
        codes[...] = found.reshape(-1)[: codes.size]
        if codes.itemsize == 1:
            codes[...] = _turned(codes, _QUARTERS)


def _turned(codes: Array, shape: tuple[int, int]) -> Array:
    """The codes of whole tiles with rows and columns exchanged; the rest as it is."""
    whole = codes.size // _TILE * _TILE
    tables = codes[:whole].reshape(-1, *shape).swapaxes(1, 2)
    return np.concatenate([tables.reshape(-1), codes[whole:]])


def noise(t: int, leaf: int, slot: int) -> int:
    """What the draws of a slot depend on besides the element, at update ``t`` of its leaf."""
    found: int = _mix(_mix(t) + leaf * _MAX_SLOTS + slot & _WORD)
    return found


def _mix(a: Any) -> Any:
    a = (a ^ a >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    a = (a ^ a >> 27) * 0x94D049BB133111EB & _WORD
    return a ^ a >> 31


def _draws(noise: int, count: int) -> Array:
    keys = [_mix(noise + tile & _WORD) & 0xFFFFFFFF for tile in range(count)]
    shifts: Array = np.array(keys, np.uint32)[:, None]
    draws: Array = shifts + np.arange(_TILE, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return draws


def _scales(code: _Code, whole: Array) -> Array:
    top = (whole.view(np.uint32) & ~_SIGN).max(axis=1, initial=0)
    most = (15 << _DROPPED) - (0x800000 >> code.doublings)
    bits = (top + np.uint32(0x7FFFFF - most)) & np.uint32(_INFINITE)
    unit = np.maximum(bits.astype(np.int64) - (code.doublings << 23), _LEAST_UNIT)
    unit = np.where(bits >= _INFINITE, 0x7FC00000, unit)
    found: Array = np.where(top == 0, 0, unit).astype(np.uint32)
    return found.view(np.float32)


def _bfloat16(whole: Array, draws: Array) -> Array:
    bits = whole.view(np.uint32)
    added = np.where((bits & 0x7FFFFFFF) < _LARGEST_BFLOAT16, draws >> 16, 0).astype(np.uint32)
    moved: Array = bits + added
    return moved >> 16


def _bytes(code: _Code, whole: Array, scales: Array, draws: Array) -> Array:
    unit = scales.view(np.int32)
    height = np.maximum((abs(whole) + scales * code.share).view(np.int32), unit)
    quarter = draws[:, None, : _QUARTERS[1]] >> (32 - _DROPPED) ^ _TURNED_ROUND[:, None]
    above = (height - unit).astype(np.uint32) + quarter.reshape(draws.shape)
    sign = np.where(np.signbit(whole), code.sign, 0)
    coded: Array = np.where(scales > 0, above >> _DROPPED | sign, 0).astype(np.uint8)
    return coded


def named_scales(scales: Mapping[str, Array]) -> dict[str, Array]:
    """The scales under the names they have in a state dict."""
    return {f"{slot}_scale": values for slot, values in scales.items()}
