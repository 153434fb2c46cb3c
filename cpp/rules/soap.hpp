// SOAP. Vyas et al. 2024, arXiv:2409.11321, Algorithm 3: Adam in the eigenbases of Shampoo.
#pragma once

#include "rules/by_axis.hpp"

namespace stepsize {
namespace {

// Adam a step later: t counts from the second step.
template <class F> struct LateAdam {
    F beta1, beta2, fresh1, fresh2, eps, step, shrink;
    LateAdam(const SOAPNumbers& h, int64_t t)
        : beta1(F(h.beta1)), beta2(F(h.beta2)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          eps(F(h.eps)), shrink(F(1 - h.lr * h.weight_decay)) {
        step = F(h.lr * root(1 - power(h.beta2, t - 1)) / (1 - power(h.beta1, t - 1)));
    }
    F average(F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = beta1 * exp_avg + fresh1 * g;
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        return exp_avg / (root(exp_avg_sq) + eps);
    }
};

template <class F> struct SOAP {
    SOAPNumbers h;
    const WholeView& view;
    ByAxis<F> by;
    LateAdam<F> adam;
    F *x, *exp_avg, *exp_avg_sq;
    F *gradient, *one, *two, *memory, *square; // of the leaf's size, and of n x n numbers
    double *wide, *vectors, *values, *work;
    size_t* order;
    size_t bytes;

    SOAP(const double* numbers, int64_t t, const WholeView& view_, char* scratch)
        : h(numbers_of<SOAPNumbers>(numbers)), view(view_),
          by(view_, view_.axes > 1 ? h.max_dim : 0), adam(h, t), x(static_cast<F*>(view.x)),
          exp_avg(static_cast<F*>(view.slots[0])), exp_avg_sq(static_cast<F*>(view.slots[1])) {
        const size_t n = by.longest, most = view.size > n * n ? view.size : n * n;
        Scratch<F> here = {scratch};
        gradient = here.take(view.size);
        one = here.take(most);
        two = here.take(most);
        memory = here.take(most);
        square = here.take(n * n);
        Scratch<double> more = {scratch, here.bytes};
        wide = more.take(n * n);
        vectors = more.take(n * n);
        values = more.take(n);
        work = more.take((n + 4) * n);
        order = reinterpret_cast<size_t*>(more.take(n));
        bytes = more.bytes;
    }

    F* gram(int k) const { return static_cast<F*>(view.slots[2 + k]); }
    F* basis(int k) const { return static_cast<F*>(view.slots[2 + by.count + k]); }

    // The first step: the bases are eigenvectors, those of the largest eigenvalue first.
    void start() const {
        for (int k = 0; k < by.count; ++k) {
            const size_t n = by.axes[k].length;
            F *to = gram(k), *q = basis(k);
            by.gram(gradient, by.axes[k], memory, square);
            for (size_t i = 0; i < n * n; ++i)
                to[i] = adam.fresh2 * square[i];
            const bool finite = all_finite_in(to, n * n);
            if (finite) {
                copy_numbers(to, n * n, wide);
                for (size_t i = 0; i < n; ++i)
                    wide[i * n + i] += 1e-30;
                eigen(wide, values, vectors, n, work);
            }
            for (size_t i = 0; i < n; ++i)
                for (size_t j = 0; j < n; ++j)
                    q[i * n + j] = finite ? F(vectors[i * n + n - 1 - j]) : F(i == j);
        }
    }

    void move() const {
        const F* seen = gradient;
        for (int k = 0; k < by.count; ++k) {
            F* const turned = seen == one ? two : one;
            by.turn(seen, by.axes[k], basis(k), true, square, turned);
            seen = turned;
        }
        F* update = seen == one ? two : one;
        const LateAdam<F> rule = adam;
        F *const first = exp_avg, *const second = exp_avg_sq, *const to = x;
        each_element(view,
                     [=](size_t i) { update[i] = rule.average(seen[i], first[i], second[i]); });
        for (int k = 0; k < by.count; ++k) {
            F* const turned = update == one ? two : one;
            by.turn(update, by.axes[k], basis(k), false, square, turned);
            update = turned;
        }
        each_element(view,
                     [=](size_t i) { to[i] = (to[i] - rule.step * update[i]) * rule.shrink; });
        for (int k = 0; k < by.count; ++k) {
            const size_t n = by.axes[k].length;
            by.gram(gradient, by.axes[k], memory, square);
            F* const kept = gram(k);
            for (size_t i = 0; i < n * n; ++i)
                kept[i] = lerp(kept[i], square[i], adam.fresh2);
        }
    }

    // One power iteration for each basis; the averages are rotated into the new bases.
    void improve() const {
        const F* average = exp_avg;
        const auto rotate = [&](int k, bool turned) {
            F* const to = average == one ? two : one;
            by.turn(average, by.axes[k], basis(k), turned, square, to);
            average = to;
        };
        for (int k = 0; k < by.count; ++k) {
            rotate(k, false);
            if (all_finite_in(gram(k), by.axes[k].length * by.axes[k].length))
                iterate(k, average == one ? two : one);
            rotate(k, true);
        }
        copy_numbers(average, view.size, exp_avg);
    }

    // `free` is memory of the leaf's size, and of n x n numbers.
    void iterate(int k, F* free) const {
        const Axis& axis = by.axes[k];
        const size_t n = axis.length;
        F *const q = basis(k), *const next = square;
        multiply(view, Product<F>{n, n, n, {gram(k), n}, {q, n}, {next, n}});
        // Estimates of the eigenvalues: the diagonal of q^T gram q, as sums in the order of
        // products.
        for (size_t i = 0; i < n * n; ++i)
            free[i] = q[i] * next[i];
        F* const ones = memory;
        F* const sums = memory + n;
        for (size_t i = 0; i < n; ++i)
            ones[i] = 1;
        multiply(view, Product<F>{1, n, n, {ones, n}, {free, n}, {sums, n}});
        for (size_t i = 0; i < n; ++i) {
            size_t at = i;
            for (; at > 0 && comes_before(sums[i], sums[order[at - 1]]); --at)
                order[at] = order[at - 1];
            order[at] = i;
        }
        for (size_t p = 0; p < axis.before; ++p)
            for (size_t i = 0; i < n; ++i)
                __builtin_memcpy(free + (p * n + i) * axis.after,
                                 exp_avg_sq + (p * n + order[i]) * axis.after,
                                 axis.after * sizeof(F));
        copy_numbers(free, view.size, exp_avg_sq);
        for (size_t i = 0; i < n; ++i)
            for (size_t j = 0; j < n; ++j)
                wide[i * n + j] = double(next[i * n + order[j]]);
        orthonormal(wide, vectors, n, work);
        copy_numbers(vectors, n * n, q);
    }
    // In descending order, NaN last.
    static bool comes_before(F a, F b) { return a > b || (b != b && a == a); }

    static size_t scratch(const double* numbers, const WholeView& view) {
        return SOAP(numbers, 1, view, nullptr).bytes;
    }
    static void run(const double* numbers, int64_t t, double*, const Prologue& prologue,
                    const WholeView& view) {
        SOAP leaf(numbers, t, view, static_cast<char*>(view.scratch));
        leaf.by.read_gradient(prologue, leaf.gradient);
        if (t == 1)
            return leaf.start();
        leaf.move();
        if ((t - 1) % int64_t(leaf.h.precondition_frequency) == 0)
            leaf.improve();
    }
};

} // namespace
} // namespace stepsize
