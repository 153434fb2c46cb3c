// Reproducible sums, the same bits everywhere: 16 lanes, element i in lane i mod 16, lanes reduced
// by halves. A block has at most chunk_size elements; the caller adds the blocks in order.
#pragma once

#include "kernels/half.hpp"

namespace stepsize {
namespace {

constexpr size_t lanes = 16;

struct Lanes {
    enum Unset { unset };
    double sum[lanes];

    Lanes() : sum{} {}
    explicit Lanes(Unset) {}

    // A multiple of `lanes` elements, except in the last call, or fewer from lane `first` on.
    template <class Term> void add(size_t count, size_t first, Term term) {
        size_t i = 0;
        for (; i + lanes <= count; i += lanes) {
#pragma omp simd
            for (size_t j = 0; j < lanes; ++j)
                sum[j] += term(i + j);
        }
        for (; i < count; ++i)
            sum[(first + i) % lanes] += term(i);
    }

    double total() const {
        double eight[8], four[4];
        for (size_t j = 0; j < 8; ++j)
            eight[j] = sum[j] + sum[j + 8];
        for (size_t j = 0; j < 4; ++j)
            four[j] = eight[j] + eight[j + 4];
        return (four[0] + four[2]) + (four[1] + four[3]);
    }
    // `head` elements came first, in the last lanes.
    double total(size_t head) const {
        Lanes turned;
        for (size_t j = 0; j < lanes; ++j)
            turned.sum[j] = sum[(j + lanes - head) % lanes];
        return turned.total();
    }
};

template <class F> double sum_of_squares(const void* data, size_t size, double scale) {
    const F* values = static_cast<const F*>(data);
    Lanes sum;
    sum.add(size, 0, [=](size_t i) { return square(double(values[i]) * scale); });
    return sum.total();
}

// Numbers of two bytes, through a buffer.
template <class N> double half_sum_of_squares(const void* data, size_t size, double scale) {
    const uint16_t* codes = static_cast<const uint16_t*>(data);
    float values[tile];
    Lanes sum;
    for (size_t at = 0; at < size; at += tile) {
        const size_t count = size - at < tile ? size - at : tile;
        to_float32_all<N>(codes + at, count, values);
        sum.add(count, 0, [&](size_t i) { return square(double(values[i]) * scale); });
    }
    return sum.total();
}

// As all_finite; float16 has all the room of float32, in which it is computed with.
template <class N> bool half_all_finite(const void* data, size_t size, int octaves) {
    const uint16_t* codes = static_cast<const uint16_t*>(data);
    const uint32_t last = N::exponent & -N::exponent;
    const uint32_t least = N::exponent - (N::exponent == 0x7f80 ? last * uint32_t(octaves - 1) : 0);
    uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
    for (size_t i = 0; i < size; ++i)
        bad |= uint32_t((codes[i] & N::exponent) >= least);
    return bad == 0;
}

template <class N> double half_largest(const void* data, size_t size) {
    const uint16_t* codes = static_cast<const uint16_t*>(data);
    uint32_t top = 0;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < size; ++i) {
        const uint32_t code = codes[i] & 0x7fffu;
        top = top > code ? top : code;
    }
    return double(N::to_float32(uint16_t(top)));
}

inline double sum_lanes(const double* values, size_t size) {
    Lanes sum;
    sum.add(size, 0, [=](size_t i) { return values[i]; });
    return sum.total();
}

// Whether all numbers lie below the power of two that is so many octaves below NaN: 1 for all that
// is finite. Adding the last bit to an exponent of all ones, which only NaN and infinity have,
// carries into the sign.
template <class F> bool all_finite(const void* data, size_t size, int octaves) {
    using Word = typename Bits<F>::type;
    const char* bytes = static_cast<const char*>(data);
    const Word carry = (Bits<F>::exponent & -Bits<F>::exponent) * Word(octaves);
    Word bad = 0;
#pragma omp simd reduction(| : bad)
    for (size_t i = 0; i < size; ++i) {
        Word word;
        __builtin_memcpy(&word, bytes + i * sizeof(F), sizeof(F));
        bad |= (word & Bits<F>::exponent) + carry;
    }
    return bad >> (8 * sizeof(Word) - 1) == 0;
}

template <class F> double largest(const void* data, size_t size) {
    const F* values = static_cast<const F*>(data);
    F top = 0;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < size; ++i)
        top = maximum(top, abs_(values[i]));
    return double(top);
}

} // namespace
} // namespace stepsize
