// The words that rules are written in. Included by kernels.cpp alone, in an anonymous namespace,
// and made of operations that IEEE 754 rounds one way only, so every processor gives the same bits.
#pragma once

#include <math.h>

#include "core/waves.hpp"

namespace stepsize {
namespace {

template <class F> inline F select(bool condition, F yes, F no) { return condition ? yes : no; }

template <class F> inline F square(F a) { return a * a; }

template <class F> inline F magnitude(F a) { return a < F(0) ? -a : a; }

// 0 for 0, so a coordinate without gradient stays where it is.
template <class F> inline F sign(F a) { return F(int(F(0) < a) - int(a < F(0))); }

template <class F> inline F larger(F a, F b) { return a > b ? a : b; }

template <class F> inline F smaller(F a, F b) { return a < b ? a : b; }

// Whether the way from a to b does not go against g. NaN: no.
template <class F> inline bool astray(F a, F b, F g) {
    return ((b > a) & (g >= 0)) | ((b < a) & (g <= 0));
}

// NaN stays NaN. Two selections, each of them one instruction.
template <class F> inline F clamp(F a, F limit) {
    const F below = limit < a ? limit : a;
    return -limit > below ? -limit : below;
}

#if defined(_MSC_VER)
inline float root(float a) { return ::sqrtf(a); }
inline double root(double a) { return ::sqrt(a); }
#else
// The builtins are one instruction; std::sqrt would be an inline function that the linker may
// share.
inline float root(float a) { return __builtin_sqrtf(a); }
inline double root(double a) { return __builtin_sqrt(a); }
#endif

// Cube root of a number >= 0, within 1 ulp, with no division: from a guess of the inverse root r,
// 3% off, that divides the exponent bits by 3; steps of fourth order, r (1 - e)^(-1/3) with
// e = 1 - a r^3; and one of Newton's. Numbers near the smallest are made larger by a cube.
template <class F> inline F inverse_cube_step(F a, F r) {
    const F e = F(1) - a * r * r * r;
    return r + r * (e * (F(1.0 / 3) + e * (F(2.0 / 9) + e * F(14.0 / 81))));
}
template <class F> inline F cube_from_inverse(F a, F r) {
    const F r2 = r * r;
    const F y = a * r2;
    return y + (F(0.5) * a - F(0.5) * y * y * y) * (r2 * F(2.0 / 3)); // halves: y^3 may overflow
}
inline float cube_root(float a) {
    constexpr float low = 7.8886090522101181e-31f;                        // 2^-100
    const float scaled = select(a < low, a * 8.5070591730234616e+37f, a); // 2^126
    // A third of the bits, near enough: vectors of integers have no division.
    const float third = float(__builtin_bit_cast(int32_t, scaled)) * (1.0f / 3);
    const int32_t guess = 0x54a20c00 - int32_t(third);
    const float r = inverse_cube_step(scaled, __builtin_bit_cast(float, guess));
    const float y = cube_from_inverse(scaled, r) * select(a < low, 2.2737367544323206e-13f, 1.0f);
    return select(a < __builtin_inff(), y, a);
}
inline double cube_root(double a) {
    constexpr double low = 1.1830521861667747e-271;                        // 2^-900
    const double scaled = select(a < low, a * 8.4527124981706439e+270, a); // 2^900
    const uint32_t bits = uint32_t(__builtin_bit_cast(uint64_t, scaled) >> 32);
    double r = __builtin_bit_cast(double, uint64_t(0x553ef0ffu - bits / 3) << 32);
    r = inverse_cube_step(scaled, inverse_cube_step(scaled, r));
    const double y = cube_from_inverse(scaled, r) * select(a < low, 4.909093465297727e-91, 1.0);
    return select(a < __builtin_inf(), y, a);
}

// The bits of a number.
template <class F> struct Bits;
template <> struct Bits<float> {
    using type = uint32_t;
    static constexpr type exponent = 0x7f800000u;
};
template <> struct Bits<double> {
    using type = uint64_t;
    static constexpr type exponent = 0x7ff0000000000000u;
};

// The point a share w of the way from a to b, exact at both ends: a + w (b - a) up to the middle,
// b - (1 - w) (b - a) from there on. Which half it is does not depend on the element, and bits
// chosen by a mask take one instruction where a condition takes many.
template <class F> inline F lerp(F a, F b, F w) {
    using Word = typename Bits<F>::type;
    const bool near = w < F(0.5);
    const Word mask = near ? ~Word(0) : Word(0);
    const Word from = (__builtin_bit_cast(Word, a) & mask) | (__builtin_bit_cast(Word, b) & ~mask);
    return __builtin_bit_cast(F, from) + (near ? w : -(F(1) - w)) * (b - a);
}

// base ** n with an error far below one unit in the last place, without the C library, whose pow
// differs between processors with and without fused multiply-add. Double-double by squaring.
inline waves::Pair multiply(waves::Pair a, waves::Pair b) {
    const waves::Pair product = waves::exact_product(a.high, b.high);
    const double tail = product.low + (a.high * b.low + a.low * b.high);
    const double high = product.high + tail;
    return {high, tail - (high - product.high)};
}

// The squares base, base**2, base**4, ... found so far, and the product over the bits of n above
// the lowest `low_bits`, which stays the same for many steps. Taken from here or computed anew, a
// number has the same bits.
struct Powers {
    static constexpr int low_bits = 4;
    double base;
    int64_t upper; // n >> low_bits of `product`
    int count;     // squares found
    waves::Pair product;
    waves::Pair squares[64];

    waves::Pair square(int bit) {
        for (; count <= bit; ++count)
            squares[count] = multiply(squares[count - 1], squares[count - 1]);
        return squares[bit];
    }
    waves::Pair times(waves::Pair result, int64_t n, int top, int bottom) {
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

// base ** exponent for a base >= 0, once a step.
inline double real_power(double base, double exponent) {
    return exponent > 0   ? waves::power(base, exponent)
           : exponent < 0 ? 1 / waves::power(base, -exponent)
                          : 1.0;
}

} // namespace
} // namespace stepsize
