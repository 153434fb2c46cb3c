// Half precision, float16 and bfloat16: read exactly, written rounded to nearest even or
// stochastically, in arithmetic that every processor has, or by instructions that give the same
// bits. A NaN stays one: read, it is quiet; written, it is the same for all.
#pragma once

#include "kernels/primitives.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>
#endif

namespace stepsize {
namespace {

using std::int16_t;
using std::int8_t;
using std::uint16_t;

inline uint32_t bits_of(float a) { return __builtin_bit_cast(uint32_t, a); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

constexpr uint32_t sign_bit = 0x80000000u;
constexpr uint32_t infinite_bits = 0x7f800000u;
constexpr uint32_t quiet_bit = 0x00400000u;

// From the largest number of a type on nothing is added: finite numbers stay finite.
constexpr uint32_t largest_float16 = 0x477fe000u, largest_bfloat16 = 0x7f7f0000u;

// The random bits of a tile are key, key + step, key + 2 step, ... : a lattice (Weyl 1916) shifted
// by a hash of update, leaf, slot and tile, so each is uniform, and independent between updates.
constexpr uint32_t key_step = 0x9e3779b9u;

struct Float16 {
    uint16_t code;
    static constexpr uint16_t exponent = 0x7c00u;

    // The exponent of a float32 is biased by 112 more.
    static float to_float32(uint16_t code) {
        const uint32_t size = (code & 0x7fffu) << 13;
        const uint32_t finite = bits_of(float_of(size) * 0x1p112f);
        const uint32_t quiet = size > uint32_t(exponent) << 13 ? quiet_bit : 0;
        const uint32_t other = size | infinite_bits | quiet;
        const uint32_t kept = size < uint32_t(exponent) << 13 ? finite : other;
        return float_of(kept | uint32_t(code & 0x8000u) << 16);
    }
    static uint16_t round_to_half(float a) {
        const uint32_t size = bits_of(a) & ~sign_bit;
        const uint32_t normal = (size + 0xfffu + (size >> 13 & 1u) - (112u << 23)) >> 13;
        // The last place of the sum is that of the smallest numbers, so the processor rounds to it.
        const uint32_t small = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
        const uint32_t finite = size < 0x38800000u ? small : normal;
        const uint32_t large = size > infinite_bits ? 0x7e00u : uint32_t(exponent);
        return uint16_t((size < 0x47800000u ? finite : large) | (bits_of(a) & sign_bit) >> 16);
    }
    // Up or down, by chance, so that the mean is the number; below 2^-14 but for parts of 2^-37.
    static uint16_t round_randomly(float a, uint32_t random) {
        const uint32_t size = bits_of(a) & ~sign_bit;
        const uint32_t added = size < largest_float16 ? random >> 19 : 0;
        const uint32_t tiny = size < 0x38800000u ? size : 0;
        const uint32_t fixed = uint32_t(int32_t(float_of(tiny) * 0x1p37f));
        const uint32_t units = size < 0x38800000u ? fixed : size - (112u << 23);
        const uint32_t large = size > infinite_bits ? 0x7e00u : uint32_t(exponent);
        const uint32_t near = (units + added) >> 13;
        return uint16_t((size < 0x47800000u ? near : large) | (bits_of(a) & sign_bit) >> 16);
    }

#if defined(__F16C__) || (defined(__aarch64__) && defined(__GNUC__))
    static constexpr size_t at_once = 8;
#if defined(__F16C__)
    using Codes = __m128i;
    static Codes load(const uint16_t* codes) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    }
    static void store(Codes codes, uint16_t* to) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), codes);
    }
    static Codes differing(Codes so_far, Codes a, Codes b) {
        return _mm_or_si128(so_far, _mm_xor_si128(a, b));
    }
    static void widen(Codes codes, float* out) { _mm256_storeu_ps(out, _mm256_cvtph_ps(codes)); }
    static Codes narrow(const float* in) {
        const __m256 a = _mm256_loadu_ps(in);
        const __m256 nan = _mm256_or_ps(_mm256_and_ps(a, _mm256_set1_ps(-0.0f)),
                                        _mm256_set1_ps(float_of(infinite_bits | quiet_bit)));
        const __m256 seen = _mm256_blendv_ps(a, nan, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
        return _mm256_cvtps_ph(seen, _MM_FROUND_TO_NEAREST_INT);
    }
#else
    using Codes = uint16x8_t;
    static Codes load(const uint16_t* codes) { return vld1q_u16(codes); }
    static void store(Codes codes, uint16_t* to) { vst1q_u16(to, codes); }
    static Codes differing(Codes so_far, Codes a, Codes b) {
        return vorrq_u16(so_far, veorq_u16(a, b));
    }
    static void widen(Codes codes, float* out) {
        vst1q_f32(out, vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(codes))));
        vst1q_f32(out + 4, vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(codes))));
    }
    static uint16x4_t narrow_four(const float* in) {
        const float32x4_t a = vld1q_f32(in);
        const uint32x4_t bits = vreinterpretq_u32_f32(a);
        const uint32x4_t nan = vorrq_u32(vandq_u32(bits, vdupq_n_u32(sign_bit)),
                                         vdupq_n_u32(infinite_bits | quiet_bit));
        const uint32x4_t seen = vbslq_u32(vceqq_f32(a, a), bits, nan);
        return vreinterpret_u16_f16(vcvt_f16_f32(vreinterpretq_f32_u32(seen)));
    }
    static Codes narrow(const float* in) {
        return vcombine_u16(narrow_four(in), narrow_four(in + 4));
    }
#endif
#else
    static constexpr size_t at_once = 0;
#endif
};

struct Bfloat16 {
    uint16_t code;
    static constexpr uint16_t exponent = 0x7f80u;

    static float to_float32(uint16_t code) { return float_of(uint32_t(code) << 16); }
    static uint16_t round_to_half(float a) {
        const uint32_t size = bits_of(a) & ~sign_bit;
        const uint32_t near = (size + 0x7fffu + (size >> 16 & 1u)) >> 16;
        return uint16_t((size > infinite_bits ? 0x7fc0u : near) | (bits_of(a) & sign_bit) >> 16);
    }
    static uint16_t round_randomly(float a, uint32_t random) {
        const uint32_t size = bits_of(a) & ~sign_bit;
        const uint32_t near = (size + (size < largest_bfloat16 ? random >> 16 : 0)) >> 16;
        return uint16_t((size > infinite_bits ? 0x7fc0u : near) | (bits_of(a) & sign_bit) >> 16);
    }
    static constexpr size_t at_once = 0; // shifts, which the compiler puts in vectors
};

// How many elements instructions of the processor convert, a few at a time.
template <class N, class F> constexpr size_t converted(size_t count) {
    return N::at_once && sizeof(F) == sizeof(float) ? count / 8 * 8 : 0;
}

template <class N, class F>
__attribute__((noinline)) void to_float32_all(const void* codes, size_t count, F* out) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
    const size_t done = converted<N, F>(count);
    if constexpr (N::at_once && sizeof(F) == sizeof(float))
        for (size_t i = 0; i < done; i += N::at_once)
            N::widen(N::load(from + i), out + i);
#pragma omp simd
    for (size_t i = done; i < count; ++i)
        out[i] = F(N::to_float32(from[i]));
}

template <class N, class F>
__attribute__((noinline)) void round_to_half_all(const F* in, size_t count, void* codes) {
    uint16_t* to = static_cast<uint16_t*>(codes);
    const size_t done = converted<N, F>(count);
    if constexpr (N::at_once && sizeof(F) == sizeof(float))
        for (size_t i = 0; i < done; i += N::at_once)
            N::store(N::narrow(in + i), to + i);
#pragma omp simd
    for (size_t i = done; i < count; ++i)
        to[i] = N::round_to_half(float(in[i]));
}

// Whether a parameter is no longer its rounded master weight.
template <class N, class F>
__attribute__((noinline)) bool differs(const uint16_t* codes, size_t count, const F* masters) {
    uint32_t found = 0;
    const size_t done = converted<N, F>(count);
    if constexpr (N::at_once && sizeof(F) == sizeof(float)) {
        typename N::Codes so_far = {};
        for (size_t i = 0; i < done; i += N::at_once)
            so_far = N::differing(so_far, N::load(codes + i), N::narrow(masters + i));
        uint16_t parts[8];
        N::store(so_far, parts);
        for (const uint16_t part : parts)
            found |= part;
    }
#pragma omp simd reduction(| : found)
    for (size_t i = done; i < count; ++i)
        found |= uint32_t(N::round_to_half(float(masters[i])) ^ codes[i]);
    return found != 0;
}

// If a parameter is no longer its rounded master weight, the caller has set it: it becomes the new
// master weight.
template <class N, class F>
__attribute__((noinline)) void merge_into_masters(const void* codes, size_t count, F* masters) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
    if (!differs<N>(from, count, masters))
        return;
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
        const float set = N::to_float32(from[i]);
        const uint32_t kept = 0 - uint32_t(N::round_to_half(float(masters[i])) == from[i]);
        masters[i] = F(float_of((bits_of(float(masters[i])) & kept) | (bits_of(set) & ~kept)));
    }
}

// Split master weights: the parameter is the nearest bfloat16 of a float32, and `low` is what is
// left of its bits, read as a whole number, so that their sum is the float32. A tie goes away from
// 0: to even, two float32 would have the same parts. One byte is left of the nearest number of 24
// bits.
template <class L> struct Split {
    static constexpr uint32_t dropped = 16 - 8 * sizeof(L); // bits of a float32 that are in neither

    // Parts that no float32 has are those of 0, infinity or NaN that the caller has set.
    static float join(uint16_t code, L low) {
        const uint32_t size = uint32_t(code & 0x7fffu) << 16;
        const uint32_t sum = size + (uint32_t(int32_t(low)) << dropped);
        return float_of((sum > infinite_bits ? size : sum) | uint32_t(code & 0x8000u) << 16);
    }
    static void split(float a, uint16_t& code, L& low) {
        const uint32_t whole = bits_of(a) & ~sign_bit;
        const uint32_t half = dropped ? (1u << dropped >> 1) - 1 + (whole >> dropped & 1u) : 0;
        const uint32_t size = (whole + half) >> dropped << dropped;
        const uint32_t near = (size + 0x8000u) >> 16;
        const uint32_t high = whole > infinite_bits ? 0x7fc0u : near;
        low = L(whole > infinite_bits ? 0 : int32_t(size - (near << 16)) >> dropped);
        code = uint16_t(high | (bits_of(a) & sign_bit) >> 16);
    }
};

template <class L> __attribute__((noinline)) void join_all(const uint16_t* codes, const void* low,
                                                           size_t count, float* out) {
    const L* rest = static_cast<const L*>(low);
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        out[i] = Split<L>::join(codes[i], rest[i]);
}

template <class L> __attribute__((noinline)) void split_all(const float* in, size_t count,
                                                            uint16_t* codes, void* low) {
    L* rest = static_cast<L*>(low);
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        Split<L>::split(in[i], codes[i], rest[i]);
}

template <class N> __attribute__((noinline)) void
round_randomly_all(const float* in, size_t count, uint16_t* codes, uint32_t random) {
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        codes[i] = N::round_randomly(in[i], random + uint32_t(i) * key_step);
}

// The parameters of a tile in the type they are computed in: the master weights, or the buffer.
template <class F>
F* load_master(const Half& half, F* masters, size_t from, size_t count, F* buffer) {
    const uint16_t* codes = static_cast<const uint16_t*>(half.data) + from;
    if (masters) {
        if (half.dtype == Dtype::float16)
            merge_into_masters<Float16>(codes, count, masters + from);
        else
            merge_into_masters<Bfloat16>(codes, count, masters + from);
        return masters + from;
    }
    if constexpr (sizeof(F) == sizeof(float)) // as half precision is computed in
        if (half.low) {
            const char* low = static_cast<const char*>(half.low) + from * half.low_bytes;
            if (half.low_bytes == 1)
                join_all<int8_t>(codes, low, count, buffer);
            else
                join_all<int16_t>(codes, low, count, buffer);
            return buffer;
        }
    if (half.dtype == Dtype::float16)
        to_float32_all<Float16>(codes, count, buffer);
    else
        to_float32_all<Bfloat16>(codes, count, buffer);
    return buffer;
}

template <class F>
void store_half(const Half& half, const F* x, size_t from, size_t count, uint32_t random) {
    uint16_t* codes = static_cast<uint16_t*>(half.data) + from;
    if constexpr (sizeof(F) == sizeof(float)) {
        if (half.low) {
            char* low = static_cast<char*>(half.low) + from * half.low_bytes;
            return half.low_bytes == 1 ? split_all<int8_t>(x, count, codes, low)
                                       : split_all<int16_t>(x, count, codes, low);
        }
        if (half.stochastic)
            return half.dtype == Dtype::float16
                       ? round_randomly_all<Float16>(x, count, codes, random)
                       : round_randomly_all<Bfloat16>(x, count, codes, random);
    }
    if (half.dtype == Dtype::float16)
        round_to_half_all<Float16>(x, count, codes);
    else
        round_to_half_all<Bfloat16>(x, count, codes);
}

} // namespace
} // namespace stepsize
