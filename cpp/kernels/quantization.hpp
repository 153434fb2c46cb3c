// Blockwise quantization of state: how a tile of a slot is read from its codes (dequantized) and
// written back by stochastic rounding, which is unbiased (Gupta et al. 2015, arXiv:1502.02551). The
// random bits come from a counter, not from a stream: they depend on update, leaf, slot and element
// alone. Every code is the upper bits of a float32, so both directions are integer shifts and
// additions.
//
// A block of 256 one-byte numbers has one scale s, a power of two stored as a float32:
//
//     bit       7   6 5 4   3 2 1 0
//     signed    S   E E E   M M M M     S sign, E exponent above s, M mantissa
//     unsigned  E   E E E   M M M M     for second moments, which are >= 0
//
//     |x| = s (2^E (1 + M / 16) - share),   share = 1 (signed) or 31/32 (unsigned)
//
// Subtracting the share makes the codes evenly spaced below s. The signed code 0 is 0; the unsigned
// code 0 is s / 32, so that no second moment becomes 0 and no step divides by 0.
#pragma once

#include "kernels/half.hpp"

namespace stepsize {
namespace {

using std::uint8_t;

constexpr int tile_length = int(tile);

template <class F> __attribute__((noinline)) void dequantize_bfloat16(const void* codes, F* out) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i)
        out[i] = F(Bfloat16::to_float32(from[i]));
}

inline uint16_t bfloat16_of(float a, uint32_t random) {
    const uint32_t bits = bits_of(a);
    const uint32_t added = (bits & ~sign_bit) < largest_bfloat16 ? random >> 16 : 0;
    return uint16_t((bits + added) >> 16);
}

template <class F>
__attribute__((noinline)) void quantize_bfloat16(const F* in, void* codes, uint32_t random) {
    uint16_t* to = static_cast<uint16_t*>(codes);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        to[i] = bfloat16_of(float(in[i]), random);
        random += key_step;
    }
}

// A code of one byte is bits 19 to 26 of a float32, relative to those of the scale.
constexpr int dropped_bits = 19;

struct ByteFormat {
    uint32_t doublings; // from the scale to the largest code, and 15 steps more
    uint32_t kept;      // mask of the bits, after the shift, that are added to the scale
    uint32_t sign;      // mask of the sign bit
    float share;        // of the scale, added to a magnitude before coding
};
constexpr ByteFormat signed_format = {7, 0x83f80000u, sign_bit, 1};
constexpr ByteFormat unsigned_format = {15, 0x07f80000u, 0, 31.0f / 32};

inline const ByteFormat& format_of(Storage storage) {
    return storage == Storage::signed8 ? signed_format : unsigned_format;
}

// The smallest scale, so that no code needs subnormal numbers.
constexpr uint32_t least_scale_bits = 0x04000000u;

// The scale for numbers up to `top` (the absmax as bits): the power of two whose largest code
// reaches `top` plus one scale. 0 if all numbers are 0. NaN if one is infinite or NaN, or has the
// largest exponent and would round up beyond it.
inline float scale_of(const ByteFormat& format, uint32_t top) {
    const uint32_t most = (15u << dropped_bits) - (0x800000u >> format.doublings);
    const uint32_t bits = (top + (0x7fffffu - most)) & infinite_bits;
    const uint32_t below = format.doublings << 23;
    if (top == 0)
        return 0;
    if (bits >= infinite_bits)
        return float_of(0x7fc00000u);
    return float_of(bits > below + least_scale_bits ? bits - below : least_scale_bits);
}

template <class F> __attribute__((noinline)) uint32_t absmax(const F* in) {
    int32_t top = 0;
#pragma omp simd reduction(max : top)
    for (int i = 0; i < tile_length; ++i) {
        const int32_t size = int32_t(bits_of(float(in[i])) & ~sign_bit);
        top = top > size ? top : size;
    }
    return uint32_t(top);
}

// Interleaving: a word holds four codes, one from each quarter of the tile, so that adjacent
// numbers are unpacked from adjacent words, and packed into them, by shifts alone.
constexpr int quarter_length = tile_length / 4;
constexpr int word_bytes = 4;

inline uint32_t word_at(const uint8_t* codes, int j) {
    uint32_t word;
    __builtin_memcpy(&word, codes + word_bytes * j, word_bytes);
    return word;
}
inline void set_word(uint8_t* codes, int j, uint32_t word) {
    __builtin_memcpy(codes + word_bytes * j, &word, word_bytes);
}

// Reads the codes of a tile.
struct Dequantizer {
    uint32_t low, share, kept, sign;

    Dequantizer(const ByteFormat& format, float scale)
        : low(bits_of(scale)), share(bits_of(scale * format.share)), kept(format.kept),
          sign(format.sign) {}

    // With a scale of NaN the sum is NaN; with a scale of 0 all codes are 0, and so is the sum.
    float dequantize(uint32_t word, int quarter) const {
        const uint32_t first = word << (24 - 8 * quarter);
        const uint32_t moved = uint32_t(int32_t(first) >> (24 - dropped_bits));
        return float_of((moved & kept) + low) - float_of((first & sign) | share);
    }
};

template <class F> __attribute__((noinline)) void dequantize_bytes(const Dequantizer& dequantizer,
                                                                   const uint8_t* codes, F* out) {
    const Dequantizer here = dequantizer;
    for (int quarter = 0; quarter < word_bytes; ++quarter)
#pragma omp simd
        for (int j = 0; j < quarter_length; ++j)
            out[j + quarter * quarter_length] = F(here.dequantize(word_at(codes, j), quarter));
}

// Writes the codes of a tile. The quarters share a random number: each XORs a fixed mask into it.
constexpr uint32_t quarter_masks[] = {0, 0x5a5a5u, 0x33cccu, 0x69969u};

struct Quantizer {
    uint32_t low, share, key;

    Quantizer(const ByteFormat& format, float scale, uint32_t key_)
        : low(bits_of(scale)), share(bits_of(scale * format.share)), key(key_) {}

    uint32_t random_at(int j) const {
        return (key + uint32_t(j) * key_step) >> (32 - dropped_bits);
    }

    // The byte, shifted to its place in the word. `low` has been subtracted from `random`.
    template <int quarter> static uint32_t placed(uint32_t height, uint32_t random) {
        const uint32_t above = height + (random ^ quarter_masks[quarter]);
        constexpr int right = dropped_bits - 8 * quarter;
        const uint32_t moved = right > 0 ? above >> (right & 31) : above << (-right & 31);
        return moved & 0xffu << 8 * quarter;
    }
    template <int quarter, bool has_sign> uint32_t byte(float a, uint32_t random) const {
        const uint32_t sign = has_sign ? bits_of(a) & sign_bit : 0;
        const int32_t sum = int32_t(bits_of(a + float_of(sign | share)));
        const int32_t least = int32_t(low);
        const uint32_t height = uint32_t(has_sign || sum > least ? sum : least);
        return placed<quarter>(height, random) | sign >> (24 - 8 * quarter);
    }
};

template <bool has_sign, class F> __attribute__((noinline)) void
quantize_all(const Quantizer& quantizer, const F* in, uint8_t* codes) {
    const Quantizer to = quantizer;
    constexpr int q = quarter_length;
#pragma omp simd
    for (int j = 0; j < q; ++j) {
        const uint32_t random = to.random_at(j) - to.low;
        const uint32_t half = to.byte<0, has_sign>(float(in[j]), random) |
                              to.byte<1, has_sign>(float(in[j + q]), random);
        const uint32_t rest = to.byte<2, has_sign>(float(in[j + 2 * q]), random) |
                              to.byte<3, has_sign>(float(in[j + 3 * q]), random);
        set_word(codes, j, half | rest);
    }
}

// Sets the scale of a tile and writes its codes, 0 where the scale is 0 or NaN.
template <class F> void quantize_bytes(const ByteFormat& format, const F* in, uint8_t* codes,
                                       float& scale, uint32_t random) {
    scale = scale_of(format, absmax(in));
    const Quantizer quantizer(format, scale, random);
    if (!(scale > 0))
        __builtin_memset(codes, 0, tile);
    else if (format.sign)
        quantize_all<true>(quantizer, in, codes);
    else
        quantize_all<false>(quantizer, in, codes);
}

// A partial tile keeps its codes in the order of its numbers, without interleaving.
inline void interleave(const uint8_t* in, uint8_t* words) {
    constexpr int q = quarter_length;
#pragma omp simd
    for (int j = 0; j < q; ++j) {
        const uint32_t half = uint32_t(in[j]) | uint32_t(in[j + q]) << 8;
        set_word(words, j, half | uint32_t(in[j + 2 * q]) << 16 | uint32_t(in[j + 3 * q]) << 24);
    }
}
inline void deinterleave(const uint8_t* words, uint8_t* out) {
    for (int k = 0; k < word_bytes; ++k)
#pragma omp simd
        for (int j = 0; j < quarter_length; ++j)
            out[quarter_length * k + j] = uint8_t(word_at(words, j) >> 8 * k);
}

// Bytes per code; 0 if the numbers are stored natively.
inline size_t width_of(Storage storage) {
    return storage == Storage::native ? 0 : storage == Storage::bfloat16 ? 2 : 1;
}

// The numbers of one tile of a slot: in place if the rule computes in their type, else dequantized
// into the buffer. The buffer holds zeros past `count`, so that whole tiles are coded.
template <class F> F* open_tile(const Slot& slot, size_t from, size_t count, F* buffer) {
    if (slot.storage == Storage::native)
        return static_cast<F*>(slot.data) + from;
    const size_t width = width_of(slot.storage);
    const bool halves = width == 2;
    const uint8_t* codes = static_cast<const uint8_t*>(slot.data) + from * width;
    uint8_t part[2 * tile], words[tile];
    if (count < tile) {
        __builtin_memset(part, 0, sizeof part);
        __builtin_memcpy(part, codes, count * width);
        if (!halves)
            interleave(part, words);
        codes = halves ? part : words;
    }
    if (halves)
        dequantize_bfloat16(codes, buffer);
    else
        dequantize_bytes(Dequantizer(format_of(slot.storage), slot.scales[from / tile]), codes,
                         buffer);
    return buffer;
}

template <class F>
void close_tile(const Slot& slot, size_t from, size_t count, F* buffer, uint32_t key) {
    if (slot.storage == Storage::native)
        return;
    const size_t width = width_of(slot.storage);
    const bool halves = width == 2;
    uint8_t* codes = static_cast<uint8_t*>(slot.data) + from * width;
    uint8_t part[2 * tile], words[tile];
    uint8_t* const whole = count == tile ? codes : halves ? part : words;
    for (size_t i = count; i < tile; ++i)
        buffer[i] = 0;
    if (halves)
        quantize_bfloat16(buffer, whole, key);
    else
        quantize_bytes(format_of(slot.storage), buffer, whole, slot.scales[from / tile], key);
    if (count == tile)
        return;
    if (!halves)
        deinterleave(words, part);
    __builtin_memcpy(codes, part, count * width);
}

} // namespace
} // namespace stepsize
