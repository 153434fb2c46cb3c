// Shampoo. Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithms 1 and 2.
#pragma once

#include "rules/by_axis.hpp"

namespace stepsize {
namespace {

inline double machine_epsilon(float) { return 1.1920928955078125e-07; }
inline double machine_epsilon(double) { return 2.220446049250313e-16; }

template <class F> struct Shampoo {
    ShampooNumbers h;
    const WholeView& view;
    ByAxis<F> by;
    F *update, *other, *memory;
    double *wide, *vectors, *values, *work;
    size_t bytes;

    Shampoo(const double* numbers, const WholeView& view_, char* scratch)
        : h(numbers_of<ShampooNumbers>(numbers)), view(view_), by(view_, h.max_dim) {
        const size_t n = by.longest;
        Scratch<F> here = {scratch};
        update = here.take(view.size);
        other = here.take(view.size);
        memory = here.take(view.size > n * n ? view.size : n * n);
        Scratch<double> more = {scratch, here.bytes};
        wide = more.take(n * n);
        vectors = more.take(n * n);
        values = more.take(n);
        work = more.take((n + 4) * n);
        bytes = more.bytes;
    }

    // gram to the power -1 / order, as w w^T with w the eigenvectors times half of it.
    void inverse_root(const F* gram, size_t n, int order, F* out) const {
        if (!all_finite_in(gram, n * n)) {
            for (size_t i = 0; i < n * n; ++i)
                out[i] = F(__builtin_nan(""));
            return;
        }
        copy_numbers(gram, n * n, wide);
        eigen(wide, values, vectors, n, work);
        const double top = values[n - 1] > 0 ? values[n - 1] : 0;
        const double floor = machine_epsilon(F()) * top * 1e-3;
        const double least = floor > 1e-300 ? floor : 1e-300;
        for (size_t k = 0; k < n; ++k) {
            double power = root(values[k] > least ? values[k] : least);
            if (order == 6)
                power = cube_root(power);
            else if (order >= 4)
                power = root(power);
            if (order == 8)
                power = root(power);
            values[k] = 1 / root(power);
        }
        for (size_t i = 0; i < n; ++i)
            for (size_t k = 0; k < n; ++k)
                vectors[i * n + k] *= values[k];
        Product<double> square = {n, n, n, {vectors, n}, {vectors, n}, {wide, n}};
        square.turned = square.symmetric = true;
        multiply(view, square);
        copy_numbers(wide, n * n, out);
    }

    void precondition(int64_t t) {
        const F most = F(double(Bits<F>::largest));
        F* const given = update;
        F* seen = update;
        F* free = other;
        // The gradient stays as it is for all axes: the second turn goes to the first memory only
        // after the last Gram matrix.
        for (int k = 0; k < by.count; ++k) {
            const Axis& axis = by.axes[k];
            const size_t n = axis.length;
            F* const gram = static_cast<F*>(view.slots[1 + k]);
            by.gram(given, axis, memory, wide_as_leaf());
            const F limit = F(double(most) / double(n));
            for (size_t i = 0; i < n * n; ++i)
                gram[i] = clamp(gram[i] + wide_as_leaf()[i], limit);
        }
        for (int k = 0; k < by.count; ++k) {
            const Axis& axis = by.axes[k];
            F* const inverse = static_cast<F*>(view.slots[1 + by.count + k]);
            if ((t - 1) % int64_t(h.precondition_frequency) == 0)
                inverse_root(static_cast<const F*>(view.slots[1 + k]), axis.length, 2 * by.count,
                             inverse);
            by.turn(seen, axis, inverse, false, memory, free);
            F* const last = seen;
            seen = free;
            free = last;
        }
        update = seen;
    }
    F* wide_as_leaf() const { return reinterpret_cast<F*>(vectors); }

    static size_t scratch(const double* numbers, const WholeView& view) {
        return Shampoo(numbers, view, nullptr).bytes;
    }
    static void run(const double* numbers, int64_t t, double*, const Prologue& prologue,
                    const WholeView& view) {
        Shampoo leaf(numbers, view, static_cast<char*>(view.scratch));
        leaf.by.read_gradient(prologue, leaf.update);
        leaf.precondition(t);
        F *x = static_cast<F*>(view.x), *average = static_cast<F*>(view.slots[0]);
        const F momentum = F(leaf.h.momentum), pull = F(1 - leaf.h.momentum), lr = F(leaf.h.lr);
        const F* update = leaf.update;
        each_element(view, [=](size_t i) {
            average[i] = momentum * average[i] + pull * update[i];
            x[i] -= lr * average[i];
        });
    }
};

} // namespace
} // namespace stepsize
