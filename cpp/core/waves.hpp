// Powers, exponentials and the cosine wave in plain arithmetic: the same bits on every processor,
// and loops over them vectorise, neither of which the C library promises. Within 1 to 2 ulp.
// Included by kernels.cpp only.
#pragma once

#include <math.h>

#include "core/types.hpp"

namespace stepsize {
namespace {
namespace waves {

constexpr double largest_number = 1.7976931348623157e308;

// A number as an unevaluated sum: `low` holds what `high` rounds away.
struct Pair {
    double high, low;
};

inline double smaller(double a, double b) { return a < b ? a : b; }
inline double larger(double a, double b) { return a > b ? a : b; }

// floor and rounding by adding the number above which a double has no fraction bits: SSE2 has no
// instruction for either and the C library's floor does not vectorise.
inline double round_down(double x) {
    constexpr double whole = 4503599627370496.0; // 2^52
    double r = (x + whole) - whole;
    r = r > x ? r - 1.0 : r;
    return x < whole ? r : x;
}

// Dekker's exact product, without the fused multiply-add that some targets lack.
inline Pair exact_product(double a, double b) {
    constexpr double split = 134217729.0; // 2^27 + 1
    const double ca = split * a, cb = split * b;
    const double a1 = ca - (ca - a), b1 = cb - (cb - b);
    const double a2 = a - a1, b2 = b - b1;
    const double high = a * b;
    return {high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2};
}

// 2^(x.high + x.low); 0 below the smallest double, the largest double above it.
inline double exp2(Pair x) {
    constexpr double shifter =
        6755399441055744.0; // 1.5 * 2^52: the low bits of x + shifter are round(x)
    double h = smaller(larger(x.high, -1080.0), 1024.0);
    const double low = smaller(larger(x.low, -1.0), 1.0);
    // Results below 2^-1000 are made 2^1000 times larger, so that the exponent field cannot
    // underflow.
    const bool tiny = h < -1000.0;
    h = tiny ? h + 1000.0 : h;
    const double shifted = h + shifter;
    const double r = (h - (shifted - shifter)) + low;
    // Taylor series of 2^r about 0, |r| <= 1/2: coefficients ln(2)^k / k!.
    double q = 1.3691488853904128e-12;
    q = q * r + 2.5678435993488206e-11;
    q = q * r + 4.4455382718708116e-10;
    q = q * r + 7.054911620801123e-09;
    q = q * r + 1.01780860092397e-07;
    q = q * r + 1.321548679014431e-06;
    q = q * r + 1.5252733804059841e-05;
    q = q * r + 0.0001540353039338161;
    q = q * r + 0.0013333558146428443;
    q = q * r + 0.009618129107628477;
    q = q * r + 0.05550410866482158;
    q = q * r + 0.24022650695910072;
    q = q * r + 0.6931471805599453;
    // Half the power of two in the exponent field, half as a factor: 2^1024 itself does not exist.
    const double mantissa = (1.0 + q * r) * 0.5;
    const uint64_t power = __builtin_bit_cast(uint64_t, shifted) << 52;
    const double y = __builtin_bit_cast(double, __builtin_bit_cast(uint64_t, mantissa) + power);
    const double scaled = y * (tiny ? 2.0 * 9.332636185032189e-302 : 2.0); // 2^-1000
    return x.high >= 1024.0 ? largest_number : smaller(scaled, largest_number);
}

// log2 of a positive normal number, with about 60 correct bits.
inline Pair log2(double x) {
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
    const Pair back = exact_product(s, bottom);
    const double s_low = (((top - back.high) - back.low) - s * bottom_low) / bottom;
    const double z = s * s;
    double q = 0.034482758620689655;
    q = q * z + 0.037037037037037035;
    q = q * z + 0.04;
    q = q * z + 0.043478260869565216;
    q = q * z + 0.047619047619047616;
    q = q * z + 0.05263157894736842;
    q = q * z + 0.058823529411764705;
    q = q * z + 0.06666666666666667;
    q = q * z + 0.07692307692307693;
    q = q * z + 0.09090909090909091;
    q = q * z + 0.1111111111111111;
    q = q * z + 0.14285714285714285;
    q = q * z + 0.2;
    q = q * z + 0.3333333333333333;
    const double tail = s_low + s * (z * q);
    constexpr double c = 2.8853900817779268, c_low = 4.0710547481862066e-17; // 2 / ln(2)
    const Pair p = exact_product(s, c);
    const double high = e + p.high;
    return {high, (p.high - (high - e)) + (p.low + (s * c_low + tail * c))};
}

inline Pair times(Pair a, double b) {
    const Pair p = exact_product(a.high, b);
    return {p.high, p.low + a.low * b};
}

// x^y for 0 <= x and 0 < y.
inline double power(double x, double y) {
    constexpr double smallest_normal = 2.2250738585072014e-308;
    const double r = exp2(times(log2(larger(x, smallest_normal)), y));
    return x < smallest_normal ? 0.0 : r;
}

// (1 - cos(pi x)) / 2 for 0 <= x <= 1/2, by its Taylor series: pi^2k / (2 (2k)!). The first
// coefficient is a pair, which makes the value at 1/2 exactly 1/2.
inline double half_wave(double x) {
    const double z = x * x;
    double q = 3.850353565300677e-11;
    q = q * z - 1.8023653987312506e-09;
    q = q * z + 6.939476231106886e-08;
    q = q * z - 2.1515347935164736e-06;
    q = q * z + 5.231905246242285e-05;
    q = q * z - 0.0009647871547019616;
    q = q * z + 0.01290344569500703;
    q = q * z - 0.1176653151794466;
    q = q * z + 0.6676313844272947;
    q = q * z - 2.0293560632083842;
    constexpr double c = 2.4674011002723395, c_low = 1.5663238771849278e-16;
    return z * c + z * (z * q + c_low);
}

} // namespace waves
} // namespace
} // namespace stepsize
