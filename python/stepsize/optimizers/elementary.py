"""Elementary functions of one number in plain arithmetic. Twin of cpp/kernels/elementary.hpp.

The C library's differ between processors in the last bit; these do not.
"""

from __future__ import annotations

import struct

_LARGEST = 1.7976931348623157e308
_MASK = (1 << 64) - 1

# Taylor series of 2**r about 0: ln(2)**k / k!.
_EXP2 = (
    0.6931471805599453,
    0.24022650695910072,
    0.05550410866482158,
    0.009618129107628477,
    0.0013333558146428443,
    0.0001540353039338161,
    1.5252733804059841e-05,
    1.321548679014431e-06,
    1.01780860092397e-07,
    7.054911620801123e-09,
    4.4455382718708116e-10,
    2.5678435993488206e-11,
)
# Series of atanh(s) / s - 1 in powers of s**2.
_ATANH = tuple(1 / k for k in range(3, 27, 2))

DoubleDouble = tuple[float, float]  # an unevaluated sum


def _bits(x: float) -> int:
    return int.from_bytes(struct.pack("<d", x), "little")


def _double(bits: int) -> float:
    value: float = struct.unpack("<d", (bits & _MASK).to_bytes(8, "little"))[0]
    return value


def _series(c: tuple[float, ...], x: float, last: float) -> float:
    """Twelve coefficients in the order of the twin, which pairs them, then ``last``."""
    x2 = x * x
    x4 = x2 * x2
    q0, q1, q2 = ((a + b * x) + x2 * (c + d * x) for a, b, c, d in (c[:4], c[4:8], c[8:]))
    return (q0 + x4 * q1) + (x4 * x4) * (q2 + x4 * last)


def two_prod(a: float, b: float) -> DoubleDouble:
    """The product and what rounding took from it (Dekker 1971, Numerische Mathematik 18)."""
    split = 134217729.0  # 2**27 + 1
    ca, cb = split * a, split * b
    a1, b1 = ca - (ca - a), cb - (cb - b)
    a2, b2 = a - a1, b - b1
    high = a * b
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


def exp2(x: DoubleDouble) -> float:
    """2 to the power of a double-double; 0 below the smallest double, at most the largest."""
    shifter = 6755399441055744.0  # 1.5 * 2**52: the low bits of x + shifter are round(x)
    if x[0] < -1080.0:
        return 0.0
    h = x[0] if x[0] < 1024.0 else 1023.0
    tiny = h < -1000.0
    h = h + 1000.0 if tiny else h
    shifted = h + shifter
    r = (h - (shifted - shifter)) + x[1]
    mantissa = (1.0 + _series(_EXP2, r, 1.3691488853904128e-12) * r) * 0.5
    y = _double(_bits(mantissa) + (_bits(shifted) << 52))
    scaled = y * (2.0 * 9.332636185032189e-302 if tiny else 2.0)  # 2**-1000
    return min(scaled, _LARGEST) if x[0] < 1024.0 else _LARGEST


def log2(x: float) -> DoubleDouble:
    """The logarithm of a positive normal number, with about 60 correct bits."""
    middle = 0x3FE6A09E667F3BCD  # sqrt(1/2)
    moved = _bits(x) + (0x3FF0000000000000 - middle)
    e = _double((moved >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1023.0)
    m = _double((moved & 0x000FFFFFFFFFFFFF) + middle)
    # log(m) = 2 atanh(s); s as a double-double, the series' tail as one number.
    top, bottom = m - 1.0, m + 1.0
    bottom_low = m - (bottom - 1.0)
    s = top / bottom
    back = two_prod(s, bottom)
    s_low = (((top - back[0]) - back[1]) - s * bottom_low) / bottom
    z = s * s
    tail = s_low + s * (z * _series(_ATANH, z, 1 / 27 + z * (1 / 29)))
    c, c_low = 2.8853900817779268, 4.0710547481862066e-17  # 2 / ln(2)
    p = two_prod(s, c)
    high = e + p[0]
    return high, (p[0] - (high - e)) + (p[1] + (s * c_low + tail * c))


def real_power(base: float, exponent: float) -> float:
    """``base ** exponent`` for a base >= 0."""
    if exponent < 0:
        return 1 / real_power(base, -exponent)
    if exponent == 0:
        return 1.0
    smallest_normal = 2.2250738585072014e-308
    if base < smallest_normal:
        return 0.0
    logarithm = log2(base)
    high, low = two_prod(logarithm[0], exponent)
    return exp2((high, low + logarithm[1] * exponent))
