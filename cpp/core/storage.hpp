// State in fewer bytes: how a tile of a slot is read from its codes and written back, rounded up or
// down at random so that it is right on average. The draws count rather than run on: each depends
// on update, leaf, slot and element alone. Included by kernel.hpp only.
#pragma once

#include "core/math.hpp"

namespace stepsize {
namespace {

using std::int8_t;
using std::uint16_t;
using std::uint8_t;

// Finaliser of splitmix64. Steele, Lea & Flood 2014, OOPSLA, figure 17.
inline uint64_t mix(uint64_t a) {
    a = (a ^ a >> 30) * 0xbf58476d1ce4e5b9u;
    a = (a ^ a >> 27) * 0x94d049bb133111ebu;
    return a ^ a >> 31;
}

inline uint32_t draw(uint32_t key, size_t i) {
    uint32_t a = key + uint32_t(i) * 0x9e3779b9u;
    a = (a ^ a >> 16) * 0x7feb352du;
    a = (a ^ a >> 15) * 0x846ca68bu;
    return a ^ a >> 16;
}

// In [0, 1).
inline float unit_draw(uint32_t key, size_t i) {
    return float(int32_t(draw(key, i) >> 8)) * (1.0f / 16777216);
}

inline uint32_t bits_of(float a) { return __builtin_bit_cast(uint32_t, a); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

constexpr uint32_t infinite_bits = 0x7f800000u;

template <class F> __attribute__((noinline)) void read_bfloat16(const void* codes, F* out) {
    const uint16_t* from = static_cast<const uint16_t*>(codes);
#pragma omp simd
    for (size_t i = 0; i < tile; ++i)
        out[i] = F(float_of(uint32_t(from[i]) << 16));
}

template <class F>
__attribute__((noinline)) void write_bfloat16(const F* in, void* codes, uint32_t key) {
    uint16_t* to = static_cast<uint16_t*>(codes);
#pragma omp simd
    for (size_t i = 0; i < tile; ++i) {
        const uint32_t bits = bits_of(float(in[i]));
        const uint32_t size = bits & 0x7fffffffu;
        const uint32_t moved = size + (draw(key, i) & 0xffffu);
        // A finite number stays one; infinity and NaN stay what they are.
        const uint32_t finite = moved < infinite_bits ? moved : infinite_bits - 1;
        const uint32_t special = size > infinite_bits ? size | 0x400000u : size;
        const uint32_t kept = size < infinite_bits ? finite : special;
        to[i] = uint16_t(((bits & 0x80000000u) | kept) >> 16);
    }
}

// The largest magnitude of a tile. Unless all are 0 it is at least 2**-117, since the lowest code
// of unsigned8 stands for 2**-32 of it.
constexpr int32_t least_scale_bits = 0x05000000;

template <class F> __attribute__((noinline)) float scale_of(const F* in) {
    int32_t top = 0;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < tile; ++i) {
        const int32_t size = int32_t(bits_of(float(in[i])) & 0x7fffffffu);
        top = top > size ? top : size;
    }
    return top == 0 ? 0.0f : float_of(uint32_t(top > least_scale_bits ? top : least_scale_bits));
}

// Code q in [-127, 127] stands for q |q| / 127**2 * scale.
template <class F>
__attribute__((noinline)) void read_signed8(const void* codes, float scale, F* out) {
    const int8_t* from = static_cast<const int8_t*>(codes);
    const float unit = scale * (1.0f / 16129);
#pragma omp simd
    for (size_t i = 0; i < tile; ++i) {
        const int32_t q = from[i];
        out[i] = F(float(q * (q < 0 ? -q : q)) * unit);
    }
}

template <class F>
__attribute__((noinline)) void write_signed8(const F* in, void* codes, float scale, uint32_t key) {
    int8_t* to = static_cast<int8_t*>(codes);
    const float inverse = scale > 0 ? 1 / scale : 0.0f;
#pragma omp simd
    for (size_t i = 0; i < tile; ++i) {
        const float value = float(in[i]);
        const float height = magnitude(value) * inverse * 16129.0f;
        const float level = root(height);
        const int32_t below = int32_t(select(level < 127.0f, level, 127.0f));
        const float rest = height - float(below * below);
        const int32_t up = unit_draw(key, i) * float(2 * below + 1) < rest ? 1 : 0;
        const int32_t q = below + up < 127 ? below + up : 127;
        to[i] = int8_t(value < 0 ? -q : q);
    }
}

// Code q in [0, 255] stands for ((q + 1) / 256)**4 * scale: never 0 where the tile is not.
template <class F>
__attribute__((noinline)) void read_unsigned8(const void* codes, float scale, F* out) {
    const uint8_t* from = static_cast<const uint8_t*>(codes);
    const float unit = scale * (1.0f / 4294967296.0f);
#pragma omp simd
    for (size_t i = 0; i < tile; ++i)
        out[i] = F(square(square(float(int32_t(from[i]) + 1))) * unit);
}

template <class F> __attribute__((noinline)) void write_unsigned8(const F* in, void* codes,
                                                                  float scale, uint32_t key) {
    uint8_t* to = static_cast<uint8_t*>(codes);
    const float inverse = scale > 0 ? 1 / scale : 0.0f;
#pragma omp simd
    for (size_t i = 0; i < tile; ++i) {
        const float height = magnitude(float(in[i])) * inverse * 4294967296.0f;
        const float level = root(root(height));
        const float low = select(level > 1.0f, level, 1.0f);
        const int32_t below = int32_t(select(low < 256.0f, low, 256.0f));
        const float floor = square(square(float(below)));
        const float ceiling = square(square(float(below + 1)));
        const int32_t up = unit_draw(key, i) * (ceiling - floor) < height - floor ? 1 : 0;
        const int32_t level_code = below + up < 256 ? below + up : 256;
        to[i] = uint8_t(level_code - 1);
    }
}

// The numbers of one tile of a slot: where they lie, if the rule computes in their type, else read
// into the buffer. The tail of a buffer past `count` holds zeros, so that whole tiles are coded.
template <class F> F* open_tile(const Slot& slot, size_t from, size_t count, F* buffer) {
    const size_t at = from / tile;
    if (slot.storage == Storage::native)
        return static_cast<F*>(slot.data) + from;
    unsigned char codes[2 * tile] = {};
    const size_t width = slot.storage == Storage::bfloat16 ? 2 : 1;
    const unsigned char* data = static_cast<const unsigned char*>(slot.data) + from * width;
    const void* whole = data;
    if (count < tile) {
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
