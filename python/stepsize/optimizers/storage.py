"""State in fewer bytes: codes, scales and rounding at random. The twin of cpp/core/storage.hpp.

``"bfloat16"`` keeps the upper half of a float32. ``"int8"`` keeps one byte a number and, for every
256 numbers of a leaf, a float32 scale, their largest magnitude: a code q of a slot that has both
signs stands for ``q |q| / 127**2`` of it, one of a slot that has none for ``((q + 1) / 256)**4``,
which is never 0, so that a second moment does not vanish under a first moment. Both round up or
down at random and are right on average; the draws depend on update, leaf, slot and element alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array

if TYPE_CHECKING:
    from stepsize.optimizers.base import Optimizer

FORMS = (None, "bfloat16", "int8")

# What a slot's name means is the same in every rule. Squares and sizes:
NONNEGATIVE = {
    "acc_delta",
    "accumulator",
    "exp_avg_sq",
    "exp_avg_var",
    "exp_inf",
    "grad_sum_sq",
    "max_exp_avg_sq",
    "square_avg",
    "step_size",
    "sum",
}
# Positions, and sums that something nearly as large is subtracted from:
EXACT = {"ax", "grad_avg", "grad_sum", "linear", "reward", "scale", "start", "theta", "total"}
EXACT |= {"x0", "z"}

_TILE = _core.tile
_MAX_SLOTS = 8
_WORD = (1 << 64) - 1
_INFINITE = 0x7F800000
_LEAST_SCALE = 0x05000000  # 2**-117 as a float32


def dtype_of(optimizer: Optimizer, slot: str, leaf: Array) -> Any:
    """The dtype in which the numbers or codes of a slot lie in memory."""
    form = optimizer._options.state_dtype
    if form is None or slot in EXACT:
        return leaf.dtype
    if form == "bfloat16":
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if slot in NONNEGATIVE else np.int8)


def check(optimizer: Optimizer) -> None:
    """Refuse codes for rules that read their state twice, or whose state has to be exact."""
    form, owner = optimizer._options.state_dtype, type(optimizer).__name__
    if form is None:
        return
    slots = {slot for values in optimizer._tables for slot in optimizer.variant(values)[1]}
    if optimizer.scope is not None or not optimizer.accelerated or (slots <= EXACT and slots):
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
    q = codes.astype(np.int32)
    shape = np.repeat(scales, _TILE)[: codes.size]
    if codes.dtype == np.int8:
        return ((q * abs(q)).astype(np.float32) * (shape * np.float32(1 / 16129))).astype(dtype)
    level = (q + 1).astype(np.float32)
    level *= level
    return (level * level * (shape * np.float32(2.0**-32))).astype(dtype)


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
            scales[...] = _scales(whole)
            encode = _signed8 if codes.dtype == np.int8 else _unsigned8
            found = encode(whole, scales[:, None], (draws >> 8).astype(np.float32) * 2.0**-24)
        codes[...] = found.reshape(-1)[: codes.size]


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
    a: Array = np.array(keys, np.uint32)[:, None] + np.arange(_TILE, dtype=np.uint32) * 0x9E3779B9
    a = (a ^ a >> 16) * np.uint32(0x7FEB352D)
    a = (a ^ a >> 15) * np.uint32(0x846CA68B)
    mixed: Array = a ^ a >> 16
    return mixed


def _scales(whole: Array) -> Array:
    top = (whole.view(np.int32) & 0x7FFFFFFF).max(axis=1, initial=0)
    kept: Array = np.where(top == 0, 0, np.maximum(top, _LEAST_SCALE)).astype(np.int32)
    return kept.view(np.float32)


def _bfloat16(whole: Array, draws: Array) -> Array:
    bits = whole.view(np.uint32)
    size = bits & 0x7FFFFFFF
    moved = size + (draws & 0xFFFF)
    finite = np.minimum(moved, _INFINITE - 1)
    special = np.where(size > _INFINITE, size | 0x400000, size)
    kept = np.where(size < _INFINITE, finite, special)
    coded: Array = ((bits & 0x80000000) | kept) >> 16
    return coded


def _inverse(scales: Array) -> Array:
    kept: Array = np.where(scales > 0, np.float32(1) / scales, np.float32(0))
    return kept


def _signed8(whole: Array, scales: Array, unit: Array) -> Array:
    height = abs(whole) * _inverse(scales) * np.float32(16129)
    level = np.sqrt(height)
    below = np.where(level < 127, level, 127).astype(np.int32)
    rest = height - (below * below).astype(np.float32)
    up = unit * (2 * below + 1).astype(np.float32) < rest
    q = np.minimum(below + up, 127)
    coded: Array = np.where(whole < 0, -q, q)
    return coded


def _unsigned8(whole: Array, scales: Array, unit: Array) -> Array:
    height = abs(whole) * _inverse(scales) * np.float32(2.0**32)
    low = np.sqrt(np.sqrt(height))
    low = np.where(low > 1, low, 1)
    below = np.where(low < 256, low, 256).astype(np.int32)
    floor, ceiling = ((below + k).astype(np.float32) ** 2 for k in (0, 1))
    floor, ceiling = floor * floor, ceiling * ceiling
    up = unit * (ceiling - floor) < height - floor
    coded: Array = np.minimum(below + up, 256) - 1
    return coded


def named_scales(scales: Mapping[str, Array]) -> dict[str, Array]:
    """The scales under the names they have in a state dict."""
    return {f"{slot}_scale": values for slot, values in scales.items()}
