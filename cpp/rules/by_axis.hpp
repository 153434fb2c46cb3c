// What Shampoo and SOAP share: the axes of a leaf that get matrices, Gram matrices of slices, and
// products with an axis.
#pragma once

#include "kernels/whole.hpp"

namespace stepsize {
namespace {

constexpr int most_axes = 4; // that get a matrix

// A leaf seen from one of its axes: `before` blocks of length x `after` numbers.
struct Axis {
    size_t before, length, after;
};

template <class F> struct ByAxis {
    const WholeView& view;
    int count = 0; // of axes that get a matrix
    Axis axes[most_axes];
    size_t longest = 0;

    STEPSIZE_SHARED_CODE ByAxis(const WholeView& view_, double max_dim) : view(view_) {
        size_t before = 1;
        for (int k = 0; k < view.axes && k < most_axes; ++k) {
            const size_t length = view.lengths[k];
            if (length > 1 && double(length) <= max_dim) {
                axes[count++] = {before, length, view.size / before / length};
                longest = length > longest ? length : longest;
            }
            before *= length;
        }
    }

    // The gradient, scaled where it has to be squared.
    STEPSIZE_SHARED_CODE void read_gradient(const Prologue& prologue, F* to) const {
        const Leaf<F> leaf(prologue, view);
        each_element(view, [=](size_t i) { to[i] = leaf.gradient(i); });
        if (count > 0)
            make_squarable(view, to);
    }

    // The Gram matrix of the slices of g along an axis, by way of memory as large as g.
    STEPSIZE_SHARED_CODE void gram(const F* g, const Axis& axis, F* memory, F* out) const {
        const size_t n = axis.length, rest = axis.before * axis.after;
        const F* rows = g;
        if (axis.after == 1 && axis.before > 1) {
            transpose<F>({g, n}, rest, n, {memory, rest});
            rows = memory;
        } else if (axis.before > 1) {
            for (size_t p = 0; p < axis.before; ++p)
                for (size_t i = 0; i < n; ++i)
                    __builtin_memcpy(memory + i * rest + p * axis.after,
                                     g + (p * n + i) * axis.after, axis.after * sizeof(F));
            rows = memory;
        }
        Product<F> product = {n, n, rest, {rows, rest}, {rows, rest}, {out, n}};
        product.turned = product.symmetric = true;
        multiply(view, product);
    }

    // out = the product of the matrix, or of its transpose, with an axis of g. `memory` is of n x n
    // numbers.
    STEPSIZE_SHARED_CODE void turn(const F* g, const Axis& axis, const F* matrix, bool turned,
                                   F* memory, F* out) const {
        const size_t n = axis.length;
        if (axis.after == 1) { // out[p][i] = sum over k of g[p][k] m[i][k]
            Product<F> product = {axis.before, n, n, {g, n}, {matrix, n}, {out, n}};
            product.turned = !turned;
            return multiply(view, product);
        }
        const F* left = matrix;
        if (turned) {
            transpose<F>({matrix, n}, n, n, {memory, n});
            left = memory;
        }
        for (size_t p = 0; p < axis.before; ++p) {
            const size_t at = p * n * axis.after;
            multiply(
                view,
                Product<F>{
                    n, axis.after, n, {left, n}, {g + at, axis.after}, {out + at, axis.after}});
        }
    }
};

STEPSIZE_SHARED_CODE inline bool all_finite_in(const float* a, size_t size) {
    return all_finite<float>(a, size, 1);
}
STEPSIZE_SHARED_CODE inline bool all_finite_in(const double* a, size_t size) {
    return all_finite<double>(a, size, 1);
}

template <class F, class G>
STEPSIZE_SHARED_CODE void copy_numbers(const F* from, size_t size, G* to) {
    for (size_t i = 0; i < size; ++i)
        to[i] = G(from[i]);
}

} // namespace
} // namespace stepsize
