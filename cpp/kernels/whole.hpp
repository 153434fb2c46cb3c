// What rules that update a leaf as a whole are made of: their memory, the gradient as they see it,
// and loops that are shared among threads.
#pragma once

#include "kernels/decompose.hpp"

namespace stepsize {
namespace {

// Rows that begin in cache lines of their own, and not all in the same set of the cache.
template <class F> inline size_t spaced(size_t columns) {
    constexpr size_t line = 64 / sizeof(F);
    const size_t whole = (columns + line - 1) / line * line;
    return whole * sizeof(F) % 1024 ? whole : whole + line;
}

// Matrices one after the other in scratch memory; without memory, it only counts.
template <class F> struct Scratch {
    char* at;
    size_t bytes = 0;

    F* take(size_t numbers) {
        F* found = at ? reinterpret_cast<F*>(at + bytes) : nullptr;
        bytes += (numbers * sizeof(F) + 63) / 64 * 64;
        return found;
    }
    MatrixRef<F> matrix(size_t rows, size_t columns) {
        const size_t apart = spaced<F>(columns);
        return {take(rows * apart), apart};
    }
};

// Calls body(first, count) for pieces of `size` elements, as many as a chunk has.
template <class Body> void each_chunk(const WholeView& view, size_t size, const Body& body) {
    struct Context {
        const Body& body;
        size_t size;
    } context = {body, size};
    view.share((size + chunk_size - 1) / chunk_size, size,
               [](void* given, size_t i) {
                   const Context& here = *static_cast<Context*>(given);
                   const size_t first = i * chunk_size, left = here.size - first;
                   here.body(first, left < chunk_size ? left : chunk_size);
               },
               &context);
}

// Calls body(i) for every element, a vector at a time.
template <class Body> void each_element(const WholeView& view, const Body& body) {
    each_chunk(view, view.size, [&](size_t first, size_t count) {
        const Body here = body; // a copy the compiler may keep in registers
#pragma omp simd
        for (size_t i = first; i < first + count; ++i)
            here(i);
    });
}

template <class F>
STEPSIZE_SHARED_CODE void multiply(const WholeView& view, const Product<F>& product) {
    view.share(
        product.strips(), product.rows * product.columns * product.depth / 16,
        [](void* given, size_t i) { static_cast<const Product<F>*>(given)->compute(i); },
        const_cast<Product<F>*>(&product));
}

// A leaf and its gradient as rules see it.
template <class F> struct Leaf {
    F* x;
    const F* g;
    F scale, limit, decay;
    void* const* slots;
    Leaf(const Prologue& p, const WholeView& view)
        : x(static_cast<F*>(view.x)), g(static_cast<const F*>(view.g)), scale(F(p.scale)),
          limit(F(p.limit)), decay(F(p.decay)), slots(view.slots) {}
    F gradient(size_t i) const { return clamp(g[i] * scale, limit) + decay * x[i]; }
    F* slot(int k) const { return static_cast<F*>(slots[k]); }
};

// Sum of squares in double, in the order that all sums have.
template <class F> STEPSIZE_SHARED_CODE double sum_squares(const F* values, size_t size) {
    double total = 0;
    for (size_t at = 0; at < size; at += chunk_size)
        total += sum_of_squares<F>(values + at, size - at < chunk_size ? size - at : chunk_size, 1);
    return total;
}

// The squares of numbers up to here can be summed up over a leaf.
inline double most_squarable(float) { return 0x1p60; }
inline double most_squarable(double) { return 0x1p508; }

// The power of two that makes sums of the squares finite.
template <class F> STEPSIZE_SHARED_CODE F squaring_scale(const F* g, size_t size) {
    const double top = largest<F>(g, size);
    const double limit = most_squarable(F()) / root(double(size));
    if (!(limit < top) || !all_finite<F>(g, size, 1))
        return 1;
    // top / limit = m 2^e with m in [1/2, 1).
    const uint64_t bits = __builtin_bit_cast(uint64_t, top / limit);
    const int e = int(bits >> 52 & 2047) - 1022;
    return F(__builtin_bit_cast(double, uint64_t(1023 - e) << 52));
}

// Scales numbers of the leaf's size where they have to be squared; returns by what.
template <class F> STEPSIZE_SHARED_CODE F make_squarable(const WholeView& view, F* numbers) {
    const F scale = squaring_scale(numbers, view.size);
    if (scale < 1)
        each_element(view, [=](size_t i) { numbers[i] *= scale; });
    return scale;
}

template <class Numbers> inline Numbers numbers_of(const double* numbers) {
    Numbers h;
    __builtin_memcpy(&h, numbers, sizeof h);
    return h;
}

} // namespace
} // namespace stepsize
