// State in fewer bytes: how a tile of a slot is read from its codes and written back, rounded up or
// down at random so that it is right on average. The draws count rather than run on: each depends
// on update, leaf, slot and element alone. Every code is the upper bits of a float32, so reading
// and writing are shifts and sums of integers. Included by kernel.hpp only.
#pragma once

#include "core/narrow.hpp"

namespace stepsize {
namespace {

using std::int8_t;
using std::uint8_t;

// Finaliser of splitmix64. Steele, Lea & Flood 2014, OOPSLA, figure 17.
inline uint64_t mix(uint64_t a) {
    a = (a ^ a >> 30) * 0xbf58476d1ce4e5b9u;
    a = (a ^ a >> 27) * 0x94d049bb133111ebu;
    return a ^ a >> 31;
}

// The draws of a tile are key, key + step, key + 2 step, ... : a lattice (Weyl 1916) shifted by a
// hash of update, leaf, slot and tile, so each is uniform, and independent from update to update.
constexpr uint32_t draw_step = 0x9e3779b9u;

constexpr int tile_length = int(tile);

template <class F> __attribute__((noinline)) void read_bfloat16(const void* codes, F* out) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i)
        out[i] = F(float_of(uint32_t(from[i]) << 16));
}

// From the largest number of this type on nothing is added: a finite number stays one, infinity and
// NaN stay what they are.
constexpr uint32_t largest_bfloat16 = 0x7f7f0000u;

template <class F>
__attribute__((noinline)) void write_bfloat16(const F* in, void* codes, uint32_t draw) {
    uint16_t* to = static_cast<uint16_t*>(codes);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const uint32_t bits = bits_of(float(in[i]));
        const uint32_t added = (bits & ~sign_bit) < largest_bfloat16 ? draw >> 16 : 0;
        to[i] = uint16_t((bits + added) >> 16);
        draw += draw_step;
    }
}

// The largest magnitude of a tile. Unless all are 0 it is at least 2**-117, since the lowest code
// of unsigned8 stands for 2**-21 of it.
constexpr int32_t least_scale_bits = 0x05000000;

template <class F> __attribute__((noinline)) float scale_of(const F* in) {
    int32_t top = 0;
#pragma omp simd reduction(max : top)
    for (int i = 0; i < tile_length; ++i) {
        const int32_t size = int32_t(bits_of(float(in[i])) & ~sign_bit);
        top = top > size ? top : size;
    }
    return top == 0 ? 0.0f : float_of(uint32_t(top > least_scale_bits ? top : least_scale_bits));
}

// Codes of one byte. The number of code q, before the scale, is level(q) - floor, where level(q) is
// the float32 whose bits lie q above those of level(0) when four bits of mantissa are left: 16
// steps to each doubling. The largest, `top`, stands for the scale.
constexpr int dropped_bits = 19;

struct Levels {
    uint32_t first; // bits of level(0)
    int32_t last;   // the largest code
    float floor, least, top;
};

// Eight doublings: 0, then in units of the scale 2**-12 to 1 by steps of 1/16 to 1/32.
constexpr Levels signed_levels = {0x3c000000u, 127, 0x1p-7f, 0, 1.9375f - 0x1p-7f};
// Sixteen doublings, from 2**-21 to 1: never 0.
constexpr Levels unsigned_levels = {0x38000000u, 255, 0x1.fp-16f, 0x1p-20f, 1.9375f - 0x1.fp-16f};

inline float level_of(const Levels& levels, int32_t q, float unit) {
    const float level = float_of((uint32_t(q) << dropped_bits) + levels.first);
    return (level - levels.floor) * unit;
}

// Of a NaN, whose tile has a scale of NaN, the least code.
inline int32_t code_of(const Levels& levels, float size, float inverse, uint32_t draw) {
    const float height = larger(size * inverse, levels.least) + levels.floor;
    const uint32_t above = bits_of(height) - levels.first + (draw >> (32 - dropped_bits));
    const int32_t q = int32_t(above >> dropped_bits);
    return q < levels.last ? q : levels.last;
}

inline float inverse_of(const Levels& levels, float scale) {
    return scale > 0 ? levels.top / scale : 0.0f;
}

template <class F>
__attribute__((noinline)) void read_signed8(const void* codes, float scale, F* out) {
    const int8_t* from = static_cast<const int8_t*>(codes);
    const float unit = scale / signed_levels.top;
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const int32_t q = from[i];
        const float size = level_of(signed_levels, q < 0 ? -q : q, unit);
        out[i] = F(float_of(bits_of(size) | (uint32_t(q) & sign_bit)));
    }
}

template <class F>
__attribute__((noinline)) void write_signed8(const F* in, void* codes, float scale, uint32_t draw) {
    int8_t* to = static_cast<int8_t*>(codes);
    const float inverse = inverse_of(signed_levels, scale);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const uint32_t bits = bits_of(float(in[i]));
        const int32_t q = code_of(signed_levels, float_of(bits & ~sign_bit), inverse, draw);
        const int32_t flip = int32_t(bits) >> 31;
        to[i] = int8_t((q ^ flip) - flip);
        draw += draw_step;
    }
}

template <class F>
__attribute__((noinline)) void read_unsigned8(const void* codes, float scale, F* out) {
    const uint8_t* from = static_cast<const uint8_t*>(codes);
    const float unit = scale / unsigned_levels.top;
#pragma omp simd
    for (int i = 0; i < tile_length; ++i)
        out[i] = F(level_of(unsigned_levels, from[i], unit));
}

template <class F> __attribute__((noinline)) void write_unsigned8(const F* in, void* codes,
                                                                  float scale, uint32_t draw) {
    uint8_t* to = static_cast<uint8_t*>(codes);
    const float inverse = inverse_of(unsigned_levels, scale);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const float size = float_of(bits_of(float(in[i])) & ~sign_bit);
        to[i] = uint8_t(code_of(unsigned_levels, size, inverse, draw));
        draw += draw_step;
    }
}

// The numbers of one tile of a slot: where they lie, if the rule computes in their type, else read
// into the buffer. The tail of a buffer past `count` holds zeros, so that whole tiles are coded.
template <class F> F* open_tile(const Slot& slot, size_t from, size_t count, F* buffer) {
    const size_t at = from / tile;
    if (slot.storage == Storage::native)
        return static_cast<F*>(slot.data) + from;
    unsigned char codes[2 * tile];
    const size_t width = slot.storage == Storage::bfloat16 ? 2 : 1;
    const unsigned char* data = static_cast<const unsigned char*>(slot.data) + from * width;
    const void* whole = data;
    if (count < tile) {
        __builtin_memset(codes, 0, sizeof codes);
        __builtin_memcpy(codes, data, count * width);
        whole = codes;
    }
    if (slot.storage == Storage::bfloat16)
        read_bfloat16(whole, buffer);
    else if (slot.storage == Storage::signed8)
        read_signed8(whole, slot.scales[at], buffer);
    else
        read_unsigned8(whole, slot.scales[at], buffer);
    return buffer;
}

template <class F>
void close_tile(const Slot& slot, size_t from, size_t count, F* buffer, uint64_t noise) {
    if (slot.storage == Storage::native)
        return;
    const size_t at = from / tile;
    const uint32_t key = uint32_t(mix(noise + at));
    unsigned char codes[2 * tile];
    const size_t width = slot.storage == Storage::bfloat16 ? 2 : 1;
    unsigned char* data = static_cast<unsigned char*>(slot.data) + from * width;
    void* whole = data;
    if (count < tile) {
        whole = codes;
        for (size_t i = count; i < tile; ++i)
            buffer[i] = 0;
    }
    if (slot.storage == Storage::bfloat16) {
        write_bfloat16(buffer, whole, key);
    } else {
        const float scale = scale_of(buffer);
        slot.scales[at] = scale;
        if (slot.storage == Storage::signed8)
            write_signed8(buffer, whole, scale, key);
        else
            write_unsigned8(buffer, whole, scale, key);
    }
    if (count < tile)
        __builtin_memcpy(data, codes, count * width);
}

} // namespace
} // namespace stepsize
