// State in fewer bytes: how a tile of a slot is read from its codes and written back, rounded up or
// down at random so that it is right on average. The draws count rather than run on: each depends
// on update, leaf, slot and element alone. Every code is the upper bits of a float32, so reading
// and writing are shifts and sums of integers. Included by streams.hpp only.
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
        out[i] = F(Bfloat16::widen(from[i]));
}

// From the largest number of this type on nothing is added: a finite number stays one, infinity and
// NaN stay what they are.
constexpr uint32_t largest_bfloat16 = 0x7f7f0000u;

inline uint16_t bfloat16_of(float a, uint32_t draw) {
    const uint32_t bits = bits_of(a);
    const uint32_t added = (bits & ~sign_bit) < largest_bfloat16 ? draw >> 16 : 0;
    return uint16_t((bits + added) >> 16);
}

template <class F>
__attribute__((noinline)) void write_bfloat16(const F* in, void* codes, uint32_t draw) {
    uint16_t* to = static_cast<uint16_t*>(codes);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        to[i] = bfloat16_of(float(in[i]), draw);
        draw += draw_step;
    }
}

// Codes of one byte: bits 19 to 26 of a float32, 16 to a doubling, counted from those of `unit`, a
// power of two that a tile has for itself. A slot that has both signs spends the topmost bit on
// them. To every magnitude a share of the unit is added before, so that the codes go on evenly
// below it: to 0, but for a slot without signs to a small number only, so that a second moment does
// not vanish under a first.
constexpr int dropped_bits = 19;

struct Code {
    uint32_t doublings; // from the unit to the largest code, and 15 steps more
    uint32_t kept;      // of a byte moved to its place, what is added to the unit
    uint32_t sign;      // and what is the sign
    float share;
};
constexpr Code signed_code = {7, 0x83f80000u, sign_bit, 1};
constexpr Code unsigned_code = {15, 0x07f80000u, 0, 31.0f / 32};

inline const Code& code_of(Storage storage) {
    return storage == Storage::signed8 ? signed_code : unsigned_code;
}

// So that no code is made of subnormal numbers.
constexpr uint32_t least_unit_bits = 0x04000000u;

// The unit for numbers up to `top`, as bits: the power of two whose largest code reaches it and a
// unit more. 0 if all are 0. NaN if one is infinite or NaN or, having the largest exponent, would
// round up out of it.
inline float unit_of(const Code& code, uint32_t top) {
    const uint32_t most = (15u << dropped_bits) - (0x800000u >> code.doublings);
    const uint32_t bits = (top + (0x7fffffu - most)) & infinite_bits;
    const uint32_t below = code.doublings << 23;
    if (top == 0)
        return 0;
    if (bits >= infinite_bits)
        return float_of(0x7fc00000u);
    return float_of(bits > below + least_unit_bits ? bits - below : least_unit_bits);
}

template <class F> __attribute__((noinline)) uint32_t top_of(const F* in) {
    int32_t top = 0;
#pragma omp simd reduction(max : top)
    for (int i = 0; i < tile_length; ++i) {
        const int32_t size = int32_t(bits_of(float(in[i])) & ~sign_bit);
        top = top > size ? top : size;
    }
    return uint32_t(top);
}

// The sum with a unit of NaN is NaN, and of 0, whose codes are 0, it is 0.
template <class F>
__attribute__((noinline)) void read_bytes(const Code& code, const void* codes, float unit, F* out) {
    const int8_t* from = static_cast<const int8_t*>(codes);
    const uint32_t low = bits_of(unit), kept = code.kept, sign = code.sign;
    const uint32_t share = bits_of(unit * code.share);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const uint32_t moved = uint32_t(int32_t(from[i])) << dropped_bits;
        out[i] = F(float_of((moved & kept) + low) - float_of((moved & sign) | share));
    }
}

template <class F>
__attribute__((noinline)) void write_signed(const F* in, void* codes, float unit, uint32_t draw) {
    uint8_t* to = static_cast<uint8_t*>(codes);
    const uint32_t low = bits_of(unit);
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const uint32_t bits = bits_of(float(in[i]));
        const uint32_t height = bits_of(float_of(bits & ~sign_bit) + unit);
        const uint32_t above = height + ((draw >> (32 - dropped_bits)) - low);
        to[i] = uint8_t(above >> dropped_bits | (bits & sign_bit) >> 24);
        draw += draw_step;
    }
}

template <class F>
__attribute__((noinline)) void write_unsigned(const F* in, void* codes, float unit, uint32_t draw) {
    uint8_t* to = static_cast<uint8_t*>(codes);
    const float share = unit * unsigned_code.share;
    const int32_t low = int32_t(bits_of(unit));
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        const int32_t sum = int32_t(bits_of(float(in[i]) + share));
        const uint32_t height = uint32_t(sum > low ? sum : low);
        const uint32_t above = height + ((draw >> (32 - dropped_bits)) - uint32_t(low));
        to[i] = uint8_t(above >> dropped_bits);
        draw += draw_step;
    }
}

// Sets the unit of a tile and writes its codes, 0 where there is no unit.
template <class F>
void write_bytes(const Code& code, const F* in, void* codes, float& unit, uint32_t draw) {
    unit = unit_of(code, top_of(in));
    if (!(unit > 0))
        __builtin_memset(codes, 0, tile);
    else if (code.sign)
        write_signed(in, codes, unit, draw);
    else
        write_unsigned(in, codes, unit, draw);
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
    else
        read_bytes(code_of(slot.storage), whole, slot.scales[at], buffer);
    return buffer;
}

template <class F>
void close_tile(const Slot& slot, size_t from, size_t count, F* buffer, uint32_t key) {
    if (slot.storage == Storage::native)
        return;
    const size_t at = from / tile;
    unsigned char codes[2 * tile];
    const size_t width = slot.storage == Storage::bfloat16 ? 2 : 1;
    unsigned char* data = static_cast<unsigned char*>(slot.data) + from * width;
    void* whole = data;
    if (count < tile) {
        whole = codes;
        for (size_t i = count; i < tile; ++i)
            buffer[i] = 0;
    }
    if (slot.storage == Storage::bfloat16)
        write_bfloat16(buffer, whole, key);
    else
        write_bytes(code_of(slot.storage), buffer, whole, slot.scales[at], key);
    if (count < tile)
        __builtin_memcpy(data, codes, count * width);
}

} // namespace
} // namespace stepsize
