// Half precision, float16 and bfloat16: read exactly, written rounded to nearest even, in
// arithmetic that every processor has.
#pragma once

#include "kernels/primitives.hpp"

namespace stepsize {
namespace {

using std::uint16_t;

inline uint32_t bits_of(float a) { return __builtin_bit_cast(uint32_t, a); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

constexpr uint32_t sign_bit = 0x80000000u;
constexpr uint32_t infinite_bits = 0x7f800000u;

struct Float16 {
    uint16_t code;
    static constexpr uint16_t exponent = 0x7c00u;

    // The exponent of a float32 is biased by 112 more.
    static float to_float32(uint16_t code) {
        const uint32_t size = (code & 0x7fffu) << 13;
        const uint32_t finite = bits_of(float_of(size) * 0x1p112f);
        const uint32_t kept = size < uint32_t(exponent) << 13 ? finite : size | infinite_bits;
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
};

template <class N, class F>
__attribute__((noinline)) void to_float32_all(const void* codes, size_t count, F* out) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        out[i] = F(N::to_float32(from[i]));
}

template <class N, class F>
__attribute__((noinline)) void round_to_half_all(const F* in, size_t count, void* codes) {
    uint16_t* to = static_cast<uint16_t*>(codes);
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        to[i] = N::round_to_half(float(in[i]));
}

// If a parameter is no longer its rounded master weight, the caller has set it: it becomes the new
// master weight.
template <class N, class F>
__attribute__((noinline)) void merge_into_masters(const void* codes, size_t count, F* masters) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
        const float set = N::to_float32(from[i]);
        const uint32_t kept = 0 - uint32_t(N::round_to_half(float(masters[i])) == from[i]);
        masters[i] = F(float_of((bits_of(float(masters[i])) & kept) | (bits_of(set) & ~kept)));
    }
}

// The parameters of a tile in the type they are computed in: the master weights, or the buffer.
template <class F>
F* load_master(const Half& half, F* masters, size_t from, size_t count, F* buffer) {
    const void* codes = static_cast<const uint16_t*>(half.data) + from;
    if (masters) {
        if (half.dtype == Dtype::float16)
            merge_into_masters<Float16>(codes, count, masters + from);
        else
            merge_into_masters<Bfloat16>(codes, count, masters + from);
        return masters + from;
    }
    if (half.dtype == Dtype::float16)
        to_float32_all<Float16>(codes, count, buffer);
    else
        to_float32_all<Bfloat16>(codes, count, buffer);
    return buffer;
}

template <class F> void store_half(const Half& half, const F* x, size_t from, size_t count) {
    void* codes = static_cast<uint16_t*>(half.data) + from;
    if (half.dtype == Dtype::float16)
        round_to_half_all<Float16>(x, count, codes);
    else
        round_to_half_all<Bfloat16>(x, count, codes);
}

} // namespace
} // namespace stepsize
