// Products of matrices in a fixed order: each element is a sum over the common axis, term after
// term, in blocks of `depth_block` that are added in order. Vectors and threads go along columns,
// so the bits depend on neither.
#pragma once

#include "core/whole.hpp"
#include "kernels/primitives.hpp"

#if defined(__GNUC__)
#define STEPSIZE_SHARED_CODE __attribute__((noinline)) // one copy for all who call it
#else
#define STEPSIZE_SHARED_CODE
#endif

namespace stepsize {
namespace {

// Columns that are computed together, one cache line of them; rows that stay in registers, so many
// that reading a line of the columns costs little beside the numbers of the rows.
template <class F> constexpr size_t strip_columns = 64 / sizeof(F);
#if defined(__AVX512F__)
constexpr size_t vector_bytes = 64, tile_rows = 12;
#elif defined(__AVX__)
constexpr size_t vector_bytes = 32, tile_rows = 6;
#elif defined(__aarch64__)
constexpr size_t vector_bytes = 16, tile_rows = 4;
#else
constexpr size_t vector_bytes = 16, tile_rows = 3;
#endif

#if defined(__GNUC__)
template <class F> struct VectorOf {
    typedef F type __attribute__((vector_size(vector_bytes)));
};
template <class F> using Vector = typename VectorOf<F>::type;
#else
template <class F> struct Vector {
    F numbers[vector_bytes / sizeof(F)];
    Vector operator+(const Vector& other) const {
        Vector sum = *this;
        for (size_t i = 0; i < vector_bytes / sizeof(F); ++i)
            sum.numbers[i] += other.numbers[i];
        return sum;
    }
    friend Vector operator*(F factor, Vector v) {
        for (size_t i = 0; i < vector_bytes / sizeof(F); ++i)
            v.numbers[i] *= factor;
        return v;
    }
};
#endif

// A matrix in memory, its rows `apart` numbers from each other.
template <class F> struct MatrixRef {
    F* data;
    size_t apart;
    F* row(size_t i) const { return data + i * apart; }
};

// target[j][i] = source[i][j]. Four by four, since the compiler does not vectorize it otherwise.
template <class F> STEPSIZE_SHARED_CODE void transpose(MatrixRef<const F> source, size_t rows,
                                                       size_t columns, MatrixRef<F> target) {
    size_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        size_t j = 0;
        for (; j + 4 <= columns; j += 4) {
#if defined(__GNUC__) && !defined(__clang__)
            typedef F Four __attribute__((vector_size(4 * sizeof(F))));
            using Word = typename Bits<F>::type;
            typedef Word Order __attribute__((vector_size(4 * sizeof(F))));
            Four a, b, c, d;
            __builtin_memcpy(&a, source.row(i) + j, sizeof a);
            __builtin_memcpy(&b, source.row(i + 1) + j, sizeof a);
            __builtin_memcpy(&c, source.row(i + 2) + j, sizeof a);
            __builtin_memcpy(&d, source.row(i + 3) + j, sizeof a);
            const Order low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
            const Four ac = __builtin_shuffle(a, c, low), bd = __builtin_shuffle(b, d, low);
            const Four ca = __builtin_shuffle(a, c, high), db = __builtin_shuffle(b, d, high);
            a = __builtin_shuffle(ac, bd, low);
            b = __builtin_shuffle(ac, bd, high);
            c = __builtin_shuffle(ca, db, low);
            d = __builtin_shuffle(ca, db, high);
            __builtin_memcpy(target.row(j) + i, &a, sizeof a);
            __builtin_memcpy(target.row(j + 1) + i, &b, sizeof a);
            __builtin_memcpy(target.row(j + 2) + i, &c, sizeof a);
            __builtin_memcpy(target.row(j + 3) + i, &d, sizeof a);
#else
            for (size_t k = 0; k < 4; ++k)
                for (size_t l = 0; l < 4; ++l)
                    target.row(j + l)[i + k] = source.row(i + k)[j + l];
#endif
        }
        for (; j < columns; ++j)
            for (size_t k = 0; k < 4; ++k)
                target.row(j)[i + k] = source.row(i + k)[j];
    }
    for (; i < rows; ++i)
        for (size_t j = 0; j < columns; ++j)
            target.row(j)[i] = source.row(i)[j];
}

// c = kept * base + share * (a b), without the first term where there is no base. With `turned`, b
// is given by its columns, as the rows of b^T. A symmetric product is computed once for both
// halves. c is none of the others.
template <class F> struct Product {
    size_t rows, columns, depth;
    MatrixRef<const F> a, b;
    MatrixRef<F> c;
    bool turned = false, symmetric = false;
    const F* base = nullptr; // its rows as far from each other as those of c
    F kept = 0, share = 1;

    size_t strips() const { return (columns + strip_columns<F> - 1) / strip_columns<F>; }
    void compute(size_t strip) const;

  private:
    static constexpr size_t width = strip_columns<F>, parts = 64 / vector_bytes;

    void pack(size_t first, size_t count, size_t from, size_t terms, F* packed) const;
    void finish(const Vector<F>* sums, F* to, const F* before, bool fresh) const;
    template <size_t height> size_t sweep(size_t row, size_t first, size_t count, size_t from,
                                          size_t terms, const F* packed) const;
};

template <class F>
void Product<F>::pack(size_t first, size_t count, size_t from, size_t terms, F* packed) const {
    if (count < width)
        __builtin_memset(packed, 0, terms * width * sizeof(F));
    if (turned)
        return transpose<F>({b.row(first) + from, b.apart}, count, terms, {packed, width});
    for (size_t k = 0; k < terms; ++k)
        if (count == width)
            __builtin_memcpy(packed + k * width, b.row(from + k) + first, width * sizeof(F));
        else
            for (size_t j = 0; j < count; ++j)
                packed[k * width + j] = b.row(from + k)[first + j];
}

// Adds sums to those of the blocks before and, after the last block, to the base.
template <class F> STEPSIZE_INLINE void Product<F>::finish(const Vector<F>* sums, F* to,
                                                           const F* before, bool fresh) const {
#pragma GCC unroll 4
    for (size_t p = 0; p < parts; ++p) {
        Vector<F> sum = sums[p], old;
        if (!fresh) {
            __builtin_memcpy(&old, to + p * (width / parts), vector_bytes);
            sum = old + sum;
        }
        if (before) {
            __builtin_memcpy(&old, before + p * (width / parts), vector_bytes);
            sum = kept * old + share * sum;
        }
        __builtin_memcpy(to + p * (width / parts), &sum, vector_bytes);
    }
}

// Some terms of the sums of `height` rows at a time, from a row on; returns the row after them.
template <class F> template <size_t height>
size_t Product<F>::sweep(size_t row, size_t first, size_t count, size_t from, size_t terms,
                         const F* packed) const {
    const bool fresh = from == 0, last = from + terms == depth;
    for (; row + height <= rows; row += height) {
        Vector<F> sums[height][parts] = {};
        const F* left = a.row(row) + from;
        for (size_t k = 0; k < terms; ++k) {
            Vector<F> right[parts];
            __builtin_memcpy(right, packed + k * width, 64);
#pragma GCC unroll 12
            for (size_t i = 0; i < height; ++i) {
                const F factor = left[i * a.apart + k];
#pragma GCC unroll 4
                for (size_t p = 0; p < parts; ++p)
                    sums[i][p] = sums[i][p] + factor * right[p];
            }
        }
        for (size_t i = 0; i < height; ++i) {
            F* to = c.row(row + i) + first;
            const F* before = last && base ? base + (row + i) * c.apart + first : nullptr;
            if (count == width) {
                finish(sums[i], to, before, fresh);
                continue;
            }
            alignas(64) F found[width], held[width] = {}, old[width] = {};
            for (size_t j = 0; j < count; ++j) {
                held[j] = to[j];
                old[j] = before ? before[j] : F(0);
            }
            __builtin_memcpy(found, held, 64);
            finish(sums[i], found, before ? old : nullptr, fresh);
            for (size_t j = 0; j < count; ++j)
                to[j] = found[j];
        }
    }
    return row;
}

// The sums of one strip of columns.
template <class F> STEPSIZE_SHARED_CODE void Product<F>::compute(size_t strip) const {
    alignas(64) F packed[depth_block * width];
    const size_t first = strip * width, left = columns - first;
    const size_t count = left < width ? left : width, top = symmetric ? first : 0;
    for (size_t from = 0; from < depth; from += depth_block) {
        const size_t more = depth - from, terms = more < depth_block ? more : depth_block;
        pack(first, count, from, terms, packed);
        size_t row = sweep<tile_rows>(top, first, count, from, terms, packed);
        if (tile_rows > 4)
            row = sweep<4>(row, first, count, from, terms, packed);
        if (tile_rows > 2)
            row = sweep<2>(row, first, count, from, terms, packed);
        sweep<1>(row, first, count, from, terms, packed);
    }
    if (symmetric && first + count < rows)
        transpose<F>({c.row(first + count) + first, c.apart}, rows - first - count, count,
                     {c.row(first) + first + count, c.apart});
}

} // namespace
} // namespace stepsize
