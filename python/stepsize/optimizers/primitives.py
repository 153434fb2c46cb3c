"""The primitives that rules are written in: the twins of cpp/kernels/primitives.hpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepsize import _core
from stepsize.arrays import Array
from stepsize.optimizers.elementary import DoubleDouble, two_prod
from stepsize.optimizers.quantization import WORD, hash64

_LANES = 16


def lerp(a: Array, b: Array, w: float) -> Any:
    """The point a share ``w`` of the way from ``a`` to ``b``, exact at both ends."""
    share = a.dtype.type(w)
    if share < 0.5:
        return a + share * (b - a)
    return b - (b - a) * (a.dtype.type(1) - share)


def sign(a: Array) -> Any:
    """1, -1, or 0 where ``a`` is 0 or NaN."""
    return ((a > 0).astype(np.int8) - (a < 0).astype(np.int8)).astype(a.dtype)


def wide(a: Array) -> Any:
    """The same values in double precision, for terms of sums."""
    return a.astype(np.float64)


def random_normal(t: int, size: int, dtype: Any) -> Array:
    """Numbers near to normal ones of variance 1, the same for a ``t``: from 64 random bits each.

    How many are set, less 32, over 4: a binomial distribution, of kurtosis 3 - 1/32.
    """
    bits = hash64(np.arange(size, dtype=np.uint64) + np.uint64(hash64(t)))
    fives, threes, nibbles = 0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F
    bits = bits - (bits >> 1 & fives)
    bits = (bits & threes) + (bits >> 2 & threes)
    set_bits = ((bits + (bits >> 4) & nibbles) * 0x0101010101010101 & WORD) >> 56
    found: Array = (set_bits.astype(dtype) - 32) * dtype(0.25)
    return found


def square(a: Any) -> Any:
    return a * a


def root(a: Any) -> Any:
    return np.sqrt(a)


def abs_(a: Array) -> Any:
    return np.where(a < 0, -a, a)


def maximum(a: Any, b: Any) -> Any:
    return np.where(a > b, a, b)


def minimum(a: Any, b: Any) -> Any:
    return np.where(a < b, a, b)


def select(condition: Any, yes: Any, no: Any) -> Any:
    return np.where(condition, yes, no)


def not_descending(a: Array, b: Array, g: Array) -> Any:
    """Whether the step from ``a`` to ``b`` does not descend along the gradient ``g``; NaN: no."""
    return ((b > a) & (g >= 0)) | ((b < a) & (g <= 0))


def outward(a: Array, b: Array) -> Any:
    """Whether the step from ``a`` to ``b`` leads away from 0; NaN: no."""
    return ((b > a) & (a > 0)) | ((b < a) & (a < 0))


def clamp(a: Array, limit: float) -> Any:
    """``a`` within ``[-limit, limit]``; NaN stays NaN."""
    bound = a.dtype.type(limit)
    return np.where(a > bound, bound, np.where(a < -bound, -bound, a))


def squarable(g: Array) -> Any:
    """A gradient whose square is finite, and the sum of a few of them too; NaN stays NaN."""
    return clamp(g, 2.0**62 if g.dtype == np.float32 else 2.0**480)


def squaring_scale(a: Array) -> Any:
    """The power of two by which sums of the squares of ``a`` are finite, if ``a`` itself is."""
    top = float(np.max(np.abs(a), initial=0.0))
    limit = 2.0 ** (np.finfo(a.dtype).maxexp // 2 - 4) / math.sqrt(max(a.size, 1))
    beyond = limit < top < math.inf
    return a.dtype.type(math.ldexp(1.0, -math.frexp(top / limit)[1]) if beyond else 1.0)


def cube_root(a: Array) -> Any:
    """The cube root of numbers >= 0: the inverse root from a guess that divides the exponent."""
    real = a.dtype.type
    if real is np.float32:
        third = a.view(np.int32).astype(np.float32) * real(1 / 3)
        guess: Any = np.int32(0x548E3880) - third.astype(np.int32)
    else:
        third = (a.view(np.uint64) >> np.uint64(32)).astype(np.float64) * (1 / 3)
        guess = (np.uint64(0x553C71BB) - third.astype(np.uint64)) << np.uint64(32)
    r = guess.view(a.dtype)
    c = (a * r) * (r * r)
    r = r * (real(1.7311404) - c * (real(1.1915703) - real(0.46782863) * c))
    if real is np.float64:
        e = 1 - (a * r) * (r * r)
        r = r + r * (e * (1 / 3 + 2 / 9 * e))
    y = (a * r) * r
    return np.where(a < np.inf, y + (y * real(2 / 3)) * (real(1) - y * r), a)


def row_sums(a: Array) -> Any:
    """Sums along the last axis, which stays: in 16 lanes, joined by halves, from 16 numbers on."""
    *front, length = a.shape
    lanes = _LANES if length >= _LANES else 1
    count = -(-length // lanes)
    whole = np.zeros((*front, count * lanes))
    whole[..., :length] = a
    total = np.zeros((*front, lanes))
    for k in range(count):
        total = total + whole[..., k * lanes : (k + 1) * lanes]
    while total.shape[-1] > 1:
        half = total.shape[-1] // 2
        total = total[..., :half] + total[..., half:]
    return total


def column_sums(a: Array) -> Any:
    """Sums along the last axis but one, which stays: row after row, in panels of rows."""
    *front, rows, columns = a.shape
    panel = _core.panel_rows(rows, columns)
    total = np.zeros((*front, 1, columns))
    for start in range(0, rows, panel):
        part = np.zeros_like(total)
        for row in range(start, min(start + panel, rows)):
            part = part + a[..., row : row + 1, :]
        total = total + part if start else part
    return total


def product(a: Array, b: Array) -> Any:
    """The product of two matrices: sums term after term, in blocks of 256 added in order."""
    return _core.product(np.ascontiguousarray(a), np.ascontiguousarray(b))


def eigen(a: Array) -> tuple[Any, Any]:
    """Eigenvalues of a symmetric matrix in ascending order, and its eigenvectors, in double."""
    return _core.eigen(np.ascontiguousarray(a, np.float64))


def orthonormal(a: Array) -> Any:
    """The orthonormal factor of a square matrix, in double."""
    return _core.orthonormal(np.ascontiguousarray(a, np.float64))


def solve_turned(q: Array, b: Array) -> Any:
    """The solution x of ``q.T @ x = b`` for an upper triangular ``q``."""
    return _core.solve_turned(np.ascontiguousarray(q), np.ascontiguousarray(b))


def sum_of_squares(a: Array) -> float:
    """The sum of the squares in double precision, in lanes and blocks."""
    return float(_core.sum_of_squares(np.ascontiguousarray(a)))


def sum_of_blocks(terms: Array, total: float = 0.0) -> float:
    """``total`` plus the sum of the terms, in the fixed order of blocks and lanes."""
    terms = terms.reshape(-1)
    for start in range(0, terms.size, _core.chunk_size):
        total += _core.sum_lanes(np.ascontiguousarray(terms[start : start + _core.chunk_size]))
    return total


def power(base: float, n: int) -> float:
    """``base ** n`` by squaring in double-double: as exact as ``**``, the same bits everywhere."""
    squares = [(base, 0.0)]
    while n >> len(squares):
        squares.append(_multiply(squares[-1], squares[-1]))
    result = (1.0, 0.0)
    for bit in reversed(range(len(squares))):
        if n >> bit & 1:
            result = _multiply(result, squares[bit])
    return result[0]


def _multiply(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """The product of two unevaluated sums."""
    product, error = two_prod(a[0], b[0])
    tail = error + (a[0] * b[1] + a[1] * b[0])
    high = product + tail
    return high, tail - (high - product)
