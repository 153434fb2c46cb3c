// State in fewer bytes: how a tile of a slot is read from its codes and written back, rounded up or
// down at random so that it is right on average. The draws count rather than run on: each depends
// on update, leaf, slot and element alone. Every code is the upper bits of a float32, so reading
// and writing are shifts and sums of integers.
#pragma once

#include "kernels/half.hpp"

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

// Four codes make a word, one of each quarter of the tile: numbers that lie side by side are then
// taken out of words that lie side by side, and put there, by shifts alone.
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

// What reading the codes of a tile takes.
struct Reader {
    uint32_t low, share, kept, sign;

    Reader(const Code& code, float unit)
        : low(bits_of(unit)), share(bits_of(unit * code.share)), kept(code.kept), sign(code.sign) {}

    // The sum with a unit of NaN is NaN, and of 0, whose codes are 0, it is 0.
    float read(uint32_t word, int quarter) const {
        const uint32_t first = word << (24 - 8 * quarter);
        const uint32_t moved = uint32_t(int32_t(first) >> (24 - dropped_bits));
        return float_of((moved & kept) + low) - float_of((first & sign) | share);
    }
};

template <class F>
__attribute__((noinline)) void read_bytes(const Reader& reader, const uint8_t* codes, F* out) {
    const Reader here = reader;
    for (int quarter = 0; quarter < word_bytes; ++quarter)
#pragma omp simd
        for (int j = 0; j < quarter_length; ++j)
            out[j + quarter * quarter_length] = F(here.read(word_at(codes, j), quarter));
}

// What writing the codes of a tile takes. The quarters share a draw, in each other bits of it are
// turned round.
constexpr uint32_t turned_round[] = {0, 0x5a5a5u, 0x33cccu, 0x69969u};

struct Writer {
    uint32_t low, share, key;

    Writer(const Code& code, float unit, uint32_t key_)
        : low(bits_of(unit)), share(bits_of(unit * code.share)), key(key_) {}

    uint32_t draw_at(int j) const { return (key + uint32_t(j) * draw_step) >> (32 - dropped_bits); }

    // The byte in its place. `draw` has been counted from `low`.
    template <int quarter> static uint32_t placed(uint32_t height, uint32_t draw) {
        const uint32_t above = height + (draw ^ turned_round[quarter]);
        constexpr int right = dropped_bits - 8 * quarter;
        const uint32_t moved = right > 0 ? above >> (right & 31) : above << (-right & 31);
        return moved & 0xffu << 8 * quarter;
    }
    template <int quarter, bool has_sign> uint32_t byte(float a, uint32_t draw) const {
        const uint32_t sign = has_sign ? bits_of(a) & sign_bit : 0;
        const int32_t sum = int32_t(bits_of(a + float_of(sign | share)));
        const int32_t least = int32_t(low);
        const uint32_t height = uint32_t(has_sign || sum > least ? sum : least);
        return placed<quarter>(height, draw) | sign >> (24 - 8 * quarter);
    }
};

template <bool has_sign, class F>
__attribute__((noinline)) void write_codes(const Writer& writer, const F* in, uint8_t* codes) {
    const Writer to = writer;
    constexpr int q = quarter_length;
#pragma omp simd
    for (int j = 0; j < q; ++j) {
        const uint32_t draw = to.draw_at(j) - to.low;
        const uint32_t half =
            to.byte<0, has_sign>(float(in[j]), draw) | to.byte<1, has_sign>(float(in[j + q]), draw);
        const uint32_t rest = to.byte<2, has_sign>(float(in[j + 2 * q]), draw) |
                              to.byte<3, has_sign>(float(in[j + 3 * q]), draw);
        set_word(codes, j, half | rest);
    }
}

// Sets the unit of a tile and writes its codes, 0 where there is no unit.
template <class F>
void write_bytes(const Code& code, const F* in, uint8_t* codes, float& unit, uint32_t draw) {
    unit = unit_of(code, top_of(in));
    const Writer writer(code, unit, draw);
    if (!(unit > 0))
        __builtin_memset(codes, 0, tile);
    else if (code.sign)
        write_codes<true>(writer, in, codes);
    else
        write_codes<false>(writer, in, codes);
}

// A tile that is not whole keeps its codes in the order of its numbers: there is no word to share.
inline void into_words(const uint8_t* in, uint8_t* words) {
    constexpr int q = quarter_length;
#pragma omp simd
    for (int j = 0; j < q; ++j) {
        const uint32_t half = uint32_t(in[j]) | uint32_t(in[j + q]) << 8;
        set_word(words, j, half | uint32_t(in[j + 2 * q]) << 16 | uint32_t(in[j + 3 * q]) << 24);
    }
}
inline void out_of_words(const uint8_t* words, uint8_t* out) {
    for (int k = 0; k < word_bytes; ++k)
#pragma omp simd
        for (int j = 0; j < quarter_length; ++j)
            out[quarter_length * k + j] = uint8_t(word_at(words, j) >> 8 * k);
}

// The bytes of a code; 0 where the numbers themselves are kept.
inline size_t width_of(Storage storage) {
    return storage == Storage::native ? 0 : storage == Storage::bfloat16 ? 2 : 1;
}

// The numbers of one tile of a slot: where they lie, if the rule computes in their type, else read
// into the buffer. The tail of a buffer past `count` holds zeros, so that whole tiles are coded.
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
            into_words(part, words);
        codes = halves ? part : words;
    }
    if (halves)
        read_bfloat16(codes, buffer);
    else
        read_bytes(Reader(code_of(slot.storage), slot.scales[from / tile]), codes, buffer);
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
        write_bfloat16(buffer, whole, key);
    else
        write_bytes(code_of(slot.storage), buffer, whole, slot.scales[from / tile], key);
    if (count == tile)
        return;
    if (!halves)
        out_of_words(words, part);
    __builtin_memcpy(codes, part, count * width);
}

} // namespace
} // namespace stepsize
