// Elementary functions (power, exponential, cosine) in plain arithmetic: the same bits everywhere,
// and loops over them vectorize; the C library guarantees neither. Errors are within 1 to 2 ulp.
#pragma once

#include <math.h>

#include "core/types.hpp"

// Forced inlining: a loop that calls one of these does not vectorize, and the compiler does not
// inline functions this long by itself.
#if defined(_MSC_VER)
#define STEPSIZE_INLINE __forceinline
#else
#define STEPSIZE_INLINE inline __attribute__((always_inline))
#endif

namespace stepsize {
namespace {
namespace elementary {

constexpr double largest_number = 1.7976931348623157e308;

// A double-double: a number as an unevaluated sum, where `low` holds what `high` rounds away.
struct DoubleDouble {
    double high, low;
};

STEPSIZE_INLINE double minimum(double a, double b) { return a < b ? a : b; }
STEPSIZE_INLINE double maximum(double a, double b) { return a > b ? a : b; }

// Selects yes where a < b, else no, by the sign of the difference. From successive comparisons the
// compiler would make branches, and evaluate each of them for numbers outside its range.
STEPSIZE_INLINE double choose_if_less(double a, double b, double yes, double no) {
    const uint64_t mask = 0 - (__builtin_bit_cast(uint64_t, a - b) >> 63);
    const uint64_t y = __builtin_bit_cast(uint64_t, yes), n = __builtin_bit_cast(uint64_t, no);
    return __builtin_bit_cast(double, n ^ ((n ^ y) & mask));
}

// floor and rounding by adding the number above which a double has no fraction bits: SSE2 has no
// instruction for either and the C library's floor does not vectorise.
STEPSIZE_INLINE double round_down(double x) {
    constexpr double whole = 4503599627370496.0; // 2^52
    double r = (x + whole) - whole;
    r = r > x ? r - 1.0 : r;
    return x < whole ? r : x;
}

// a + b x + c x^2 + d x^3, in two steps instead of three: a long chain of dependent operations
// leaves the processor idle.
STEPSIZE_INLINE double cubic(double a, double b, double c, double d, double x, double x2) {
    return (a + b * x) + x2 * (c + d * x);
}

// The exact product (Dekker 1971), without the fused multiply-add that some targets lack.
STEPSIZE_INLINE DoubleDouble two_prod(double a, double b) {
    constexpr double split = 134217729.0; // 2^27 + 1
    const double ca = split * a, cb = split * b;
    const double a1 = ca - (ca - a), b1 = cb - (cb - b);
    const double a2 = a - a1, b2 = b - b1;
    const double high = a * b;
    return {high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2};
}

// 2^(x.high + x.low); 0 below the smallest double, the largest double above it.
STEPSIZE_INLINE double exp2(DoubleDouble x) {
    constexpr double shifter =
        6755399441055744.0; // 1.5 * 2^52: the low bits of x + shifter are round(x)
    double h = choose_if_less(x.high, -1080.0, -1080.0, x.high);
    h = choose_if_less(h, 1024.0, h, 1023.0);
    // Results below 2^-1000 are made 2^1000 times larger, so that the exponent field cannot
    // underflow.
    const double scale = choose_if_less(h, -1000.0, 2.0 * 9.332636185032189e-302, 2.0); // 2^-1000
    h = choose_if_less(h, -1000.0, h + 1000.0, h);
    const double shifted = h + shifter;
    const double r = (h - (shifted - shifter)) + x.low;
    // Taylor series of 2^r about 0, |r| <= 1/2: coefficients ln(2)^k / k!.
    const double r2 = r * r, r4 = r2 * r2;
    const double q0 = cubic(0.6931471805599453, 0.24022650695910072, 0.05550410866482158,
                            0.009618129107628477, r, r2);
    const double q1 = cubic(0.0013333558146428443, 0.0001540353039338161, 1.5252733804059841e-05,
                            1.321548679014431e-06, r, r2);
    const double q2 = cubic(1.01780860092397e-07, 7.054911620801123e-09, 4.4455382718708116e-10,
                            2.5678435993488206e-11, r, r2);
    const double q = (q0 + r4 * q1) + (r4 * r4) * (q2 + r4 * 1.3691488853904128e-12);
    // Half the power of two in the exponent field, half as a factor: 2^1024 itself does not exist.
    const double mantissa = (1.0 + q * r) * 0.5;
    const uint64_t power = __builtin_bit_cast(uint64_t, shifted) << 52;
    const double y = __builtin_bit_cast(double, __builtin_bit_cast(uint64_t, mantissa) + power);
    const double bounded = choose_if_less(x.high, 1024.0, y * scale, largest_number);
    return choose_if_less(x.high, -1080.0, 0.0,
                          choose_if_less(bounded, largest_number, bounded, largest_number));
}

// log2 of a positive normal number, with about 60 correct bits.
STEPSIZE_INLINE DoubleDouble log2(double x) {
    const uint64_t bits = __builtin_bit_cast(uint64_t, x);
    // Moves the exponent's turning point from 1 to sqrt(1/2), so that m lies in [sqrt(1/2),
    // sqrt(2)).
    const uint64_t moved = bits + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    const double e = __builtin_bit_cast(double, (moved >> 52) | 0x4330000000000000u) -
                     (4503599627370496.0 + 1023.0);
    const double m =
        __builtin_bit_cast(double, (moved & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    // log(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172; s as a pair, the series' tail as one
    // number.
    const double top = m - 1.0, bottom = m + 1.0;
    const double bottom_low = m - (bottom - 1.0);
    const double s = top / bottom;
    const DoubleDouble back = two_prod(s, bottom);
    const double s_low = (((top - back.high) - back.low) - s * bottom_low) / bottom;
    const double z = s * s;
    const double z2 = z * z, z4 = z2 * z2;
    const double q0 = cubic(1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, z, z2);
    const double q1 = cubic(1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, z, z2);
    const double q2 = cubic(1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25, z, z2);
    const double q = (q0 + z4 * q1) + (z4 * z4) * (q2 + z4 * (1.0 / 27 + z * (1.0 / 29)));
    const double tail = s_low + s * (z * q);
    constexpr double c = 2.8853900817779268, c_low = 4.0710547481862066e-17; // 2 / ln(2)
    const DoubleDouble p = two_prod(s, c);
    const double high = e + p.high;
    return {high, (p.high - (high - e)) + (p.low + (s * c_low + tail * c))};
}

STEPSIZE_INLINE DoubleDouble times(DoubleDouble a, double b) {
    const DoubleDouble p = two_prod(a.high, b);
    return {p.high, p.low + a.low * b};
}

// x^y for 0 <= x and 0 < y.
STEPSIZE_INLINE double power(double x, double y) {
    constexpr double smallest_normal = 2.2250738585072014e-308;
    const double r = exp2(times(log2(choose_if_less(x, smallest_normal, smallest_normal, x)), y));
    return choose_if_less(x, smallest_normal, 0.0, r);
}

// (1 - cos(pi x)) / 2 for 0 <= x <= 1/2, by its Taylor series: pi^2k / (2 (2k)!). The first
// coefficient is a pair, which makes the value at 1/2 exactly 1/2.
STEPSIZE_INLINE double half_wave(double x) {
    const double z = x * x;
    const double z2 = z * z, z4 = z2 * z2;
    const double q0 = cubic(-2.0293560632083842, 0.6676313844272947, -0.1176653151794466,
                            0.01290344569500703, z, z2);
    const double q1 = cubic(-0.0009647871547019616, 5.231905246242285e-05, -2.1515347935164736e-06,
                            6.939476231106886e-08, z, z2);
    const double q2 = -1.8023653987312506e-09 + 3.850353565300677e-11 * z;
    const double q = q0 + z4 * (q1 + z4 * q2);
    constexpr double c = 2.4674011002723395, c_low = 1.5663238771849278e-16;
    return z * c + z * (z * q + c_low);
}

} // namespace elementary
} // namespace
} // namespace stepsize
