// The primitives that rules are written in: operations whose rounding IEEE 754 defines uniquely, so
// every processor gives the same bits.
#pragma once

#include <math.h>

#include "kernels/elementary.hpp"

namespace stepsize {
namespace {

// Finaliser of splitmix64. Steele, Lea & Flood 2014, OOPSLA, figure 17.
inline uint64_t hash64(uint64_t a) {
    a = (a ^ a >> 30) * 0xbf58476d1ce4e5b9u;
    a = (a ^ a >> 27) * 0x94d049bb133111ebu;
    return a ^ a >> 31;
}

template <class F> inline F select(bool condition, F yes, F no) { return condition ? yes : no; }

template <class F> inline F square(F a) { return a * a; }

template <class F> inline F abs_(F a) { return a < F(0) ? -a : a; }

// 0 for 0, so a coordinate without gradient does not move.
template <class F> inline F sign(F a) { return F(int(F(0) < a) - int(a < F(0))); }

template <class F> inline F maximum(F a, F b) { return a > b ? a : b; }

template <class F> inline F minimum(F a, F b) { return a < b ? a : b; }

// The cautious mask: whether the move from a to b does not descend along g. False for NaN.
template <class F> inline bool not_descending(F a, F b, F g) {
    return ((b > a) & (g >= 0)) | ((b < a) & (g <= 0));
}

// Whether the move from a to b leads away from 0. False for NaN.
template <class F> inline bool outward(F a, F b) {
    return ((b > a) & (a > 0)) | ((b < a) & (a < 0));
}

// NaN stays NaN. Two selections, each of them one instruction.
template <class F> inline F clamp(F a, F limit) {
    const F below = limit < a ? limit : a;
    return -limit > below ? -limit : below;
}

// The same between two bounds.
template <class F> inline F within(F a, F low, F high) {
    const F above = low > a ? low : a;
    return high < above ? high : above;
}

#if defined(_MSC_VER)
inline float root(float a) { return ::sqrtf(a); }
inline double root(double a) { return ::sqrt(a); }
#else
// The builtins are one instruction; std::sqrt would be an inline function that the linker may share
// between instruction sets.
inline float root(float a) { return __builtin_sqrtf(a); }
inline double root(double a) { return __builtin_sqrt(a); }
#endif

// Cube root of a number >= 0, within 1.5 ulp and without division. A guess of the inverse root,
// which divides the exponent bits by 3, is refined by a minimax quadratic in a r^3 (2.7e-5) and
// Newton's steps. The root of a subnormal number is too small, that of 0 is 0.
template <class F> inline F cube_from(F a, F guess) {
    const F c = (a * guess) * (guess * guess);
    return guess * (F(1.7311404) - c * (F(1.1915703) - F(0.46782863) * c));
}
template <class F> inline F cube_finished(F a, F r) {
    const F y = (a * r) * r;
    return select(a < F(__builtin_inf()), y + (y * F(2.0 / 3)) * (F(1) - y * r), a);
}
inline float cube_root(float a) {
    // About a third of the bits, since there is no vector division of integers.
    const float third = float(__builtin_bit_cast(int32_t, a)) * (1.0f / 3);
    const int32_t guess = 0x548e3880 - int32_t(third);
    return cube_finished(a, cube_from(a, __builtin_bit_cast(float, guess)));
}
inline double cube_root(double a) {
    const double third = double(int32_t(__builtin_bit_cast(uint64_t, a) >> 32)) * (1.0 / 3);
    const uint64_t guess = uint64_t(0x553c71bb - int32_t(third)) << 32;
    const double r = cube_from(a, __builtin_bit_cast(double, guess));
    const double e = 1 - (a * r) * (r * r);
    return cube_finished(a, r + r * (e * (1.0 / 3 + 2.0 / 9 * e)));
}

// The bits of a number.
template <class F> struct Bits;
template <> struct Bits<float> {
    using type = uint32_t;
    static constexpr type exponent = 0x7f800000u;
    static constexpr float largest = __FLT_MAX__, squarable = 0x1p62f;
};
template <> struct Bits<double> {
    using type = uint64_t;
    static constexpr type exponent = 0x7ff0000000000000u;
    static constexpr double largest = __DBL_MAX__, squarable = 0x1p480;
};

// A gradient whose square is finite, and the sum of a few of them too. Where the step is a gradient
// over the root of its square, a larger one moves by as much.
template <class F> inline F squarable(F g) { return clamp(g, Bits<F>::squarable); }

// Linear interpolation (lerp) with weight w, exact at both ends: from a up to the middle, a + w (b
// - a), and from b beyond it, b - (1 - w) (b - a). The choice does not depend on the element, and a
// bit mask selects in one instruction where a condition takes many.
template <class F> inline F lerp(F a, F b, F w) {
    using Word = typename Bits<F>::type;
    const bool near = w < F(0.5);
    const Word mask = near ? ~Word(0) : Word(0);
    const Word from = (__builtin_bit_cast(Word, a) & mask) | (__builtin_bit_cast(Word, b) & ~mask);
    return __builtin_bit_cast(F, from) + (near ? w : -(F(1) - w)) * (b - a);
}

// base ** n with an error far below one unit in the last place, without the C library, whose pow
// differs between processors with and without fused multiply-add. Exponentiation by squaring in
// double-double.
inline elementary::DoubleDouble multiply(elementary::DoubleDouble a, elementary::DoubleDouble b) {
    const elementary::DoubleDouble product = elementary::two_prod(a.high, b.high);
    const double tail = product.low + (a.high * b.low + a.low * b.high);
    const double high = product.high + tail;
    return {high, tail - (high - product.high)};
}

// Cache of the squares base, base**2, base**4, ... and of the product over the bits of n above the
// lowest `low_bits`, which stays the same for many steps. Cached or recomputed, a number has the
// same bits.
struct Powers {
    static constexpr int low_bits = 4;
    double base;
    int64_t upper; // n >> low_bits of `product`
    int count;     // squares cached
    elementary::DoubleDouble product;
    elementary::DoubleDouble squares[64];

    elementary::DoubleDouble square(int bit) {
        for (; count <= bit; ++count)
            squares[count] = multiply(squares[count - 1], squares[count - 1]);
        return squares[bit];
    }
    elementary::DoubleDouble times(elementary::DoubleDouble result, int64_t n, int top,
                                   int bottom) {
        for (int bit = top; bit >= bottom; --bit)
            if (n >> bit & 1)
                result = multiply(result, square(bit));
        return result;
    }
    double power(int64_t n) {
        if (n >> low_bits != upper) {
            upper = n >> low_bits;
            product = times({1.0, 0.0}, n, 62, low_bits);
        }
        return times(product, n, low_bits - 1, 0).high;
    }
};

inline double power(double base, int64_t n) {
    static thread_local Powers known[8];
    std::uint64_t bits;
    __builtin_memcpy(&bits, &base, sizeof bits);
    Powers& here = known[bits * 0x9e3779b97f4a7c15u >> 61];
    if (here.count == 0 || here.base != base) {
        here.base = base;
        here.upper = 0;
        here.count = 1;
        here.product = {1.0, 0.0};
        here.squares[0] = {base, 0.0};
    }
    return here.power(n);
}

// base ** exponent for a base >= 0, once per step.
inline double real_power(double base, double exponent) {
    return exponent > 0   ? elementary::power(base, exponent)
           : exponent < 0 ? 1 / elementary::power(base, -exponent)
                          : 1.0;
}

} // namespace
} // namespace stepsize
