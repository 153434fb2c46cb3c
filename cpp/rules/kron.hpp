// PSGD-Kron. Li 2018, arXiv:1809.10232: a whitening preconditioner with one factor per axis, fitted
// by gradient descent.
#pragma once

#include "rules/by_axis.hpp"

namespace stepsize {
namespace {

// Numbers near to normal ones of variance 1: how many of 64 random bits are set, less 32, over 4.
template <class F> STEPSIZE_SHARED_CODE void random_normal(int64_t t, size_t size, F* to) {
    constexpr uint64_t fives = 0x5555555555555555u, threes = 0x3333333333333333u;
    const uint64_t first = hash64(uint64_t(t));
    for (size_t i = 0; i < size; ++i) {
        uint64_t bits = hash64(first + i);
        bits -= bits >> 1 & fives;
        bits = (bits & threes) + (bits >> 2 & threes);
        const uint64_t bytes = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu;
        to[i] = (F(int(bytes * 0x0101010101010101u >> 56)) - 32) * F(0.25);
    }
}

// The largest magnitude; NaN where there is one.
template <class F> STEPSIZE_SHARED_CODE F top_of(const F* a, size_t size) {
    F top = 0;
    bool number = true;
    for (size_t i = 0; i < size; ++i) {
        top = maximum(abs_(a[i]), top);
        number &= a[i] == a[i];
    }
    return number ? top : F(__builtin_nan(""));
}

// The authors' update probability of the preconditioner, which decays from 1 to 0.03.
inline double annealed(int64_t t) {
    const double e = 2.718281828459045, exponent = 0.001 * double(500 - t);
    const double share = exponent < 0   ? 1 / elementary::power(e, -exponent)
                         : exponent > 0 ? elementary::power(e, exponent)
                                        : 1;
    const double some = share > 0.03 ? share : 0.03;
    return some < 1 ? some : 1;
}

template <class F> struct Kron {
    static constexpr double tiny = 0x1p-126;
    KronNumbers h;
    const WholeView& view;
    ByAxis<F> by; // of which the axes are not used: here each of the first few has a factor
    int count = 0;
    Axis axes[most_axes];
    F *a, *b, *free, *memory, *ones;    // of the leaf's size
    F *one, *two, *square, *next, *row; // of n x n numbers, for the longest n; the last one of 2 n
    size_t bytes;

    Kron(const double* numbers, const WholeView& view_, char* scratch)
        : h(numbers_of<KronNumbers>(numbers)), view(view_), by(view_, 0) {
        size_t before = 1, longest = 1, most = 1;
        for (; count < view.axes && count < most_axes; ++count) {
            const size_t n = view.lengths[count];
            axes[count] = {before, n, view.size / before / n};
            before *= n;
            most = n > most ? n : most;
            longest = triangular(count) && n > longest ? n : longest;
        }
        if (count == 0)
            axes[count++] = {1, 1, 1};
        Scratch<F> here = {scratch};
        a = here.take(view.size);
        b = here.take(view.size);
        free = here.take(view.size);
        memory = here.take(view.size);
        ones = here.take(view.size);
        one = here.take(longest * longest);
        two = here.take(longest * longest);
        square = here.take(longest * longest);
        next = here.take(longest * longest);
        row = here.take(2 * most);
        bytes = here.bytes;
    }

    F* factor(int k) const { return static_cast<F*>(view.slots[1 + k]); }
    bool triangular(int k) const { return view.slot_sizes[1 + k] > axes[k].length; }

    // Calls body(i, j) with a place along the axis for each element j.
    template <class Body> static void along(const Axis& axis, const Body& body) {
        for (size_t p = 0, j = 0; p < axis.before; ++p)
            for (size_t i = 0; i < axis.length; ++i)
                for (const size_t end = j + axis.after; j < end; ++j)
                    body(i, j);
    }
    // to and from, of which one has the axis first: moved there, or back.
    static void exchange(const Axis& axis, const F* from, F* to, bool back) {
        const size_t n = axis.length, after = axis.after, rest = axis.before * after;
        for (size_t p = 0; p < axis.before; ++p)
            for (size_t i = 0; i < n; ++i) {
                const size_t plain = (p * n + i) * after, first = i * rest + p * after;
                __builtin_memcpy(to + (back ? plain : first), from + (back ? first : plain),
                                 after * sizeof(F));
            }
    }

    // to = the factor, or its transpose, applied to `from` along its axis.
    void apply(int k, const F* from, bool turned, F* to) const {
        const F* q = factor(k);
        if (triangular(k))
            return by.turn(from, axes[k], q, turned, square, to);
        along(axes[k], [=](size_t i, size_t j) { to[j] = from[j] * q[i]; });
    }

    // to = the inverse transpose of the factor applied to `from` along its axis.
    void solve(int k, const F* from, F* to) const {
        const Axis& axis = axes[k];
        const size_t n = axis.length;
        const F* q = factor(k);
        if (!triangular(k))
            return along(axis, [=](size_t i, size_t j) { to[j] = from[j] / q[i]; });
        bool regular = all_finite_in(q, n * n);
        for (size_t i = 0; i < n; ++i)
            regular &= q[i * n + i] != 0;
        if (!regular)
            return along(axis, [=](size_t, size_t j) { to[j] = F(__builtin_nan("")); });
        exchange(axis, from, memory, false);
        solve_turned(q, memory, n, axis.before * axis.after);
        exchange(axis, memory, to, true);
    }

    // The sums of the squares of the slices along an axis, which `memory` takes; `ones` are set.
    void squares(const Axis& axis, const F* from, F* to) const {
        const size_t rest = axis.before * axis.after;
        exchange(axis, from, memory, false);
        for (size_t j = 0; j < axis.length * rest; ++j)
            memory[j] *= memory[j];
        multiply(view, Product<F>{axis.length, 1, rest, {memory, rest}, {ones, 1}, {to, 1}});
    }

    // A lower bound of the largest eigenvalue, by one power iteration from the longest row; the
    // matrix is overwritten.
    F norm(F* matrix, size_t n) const {
        const F top = top_of(matrix, n * n);
        if (!(top > 0 && top < F(__builtin_inf())))
            return top;
        for (size_t i = 0; i < n * n; ++i) {
            matrix[i] /= top;
            next[i] = matrix[i] * matrix[i];
        }
        F *const first = row, *const second = row + n;
        multiply(view, Product<F>{n, 1, n, {next, n}, {ones, 1}, {first, 1}});
        size_t longest = 0;
        for (size_t i = 1; i < n; ++i)
            longest = first[i] > first[longest] ? i : longest;
        multiply(view, Product<F>{1, n, n, {matrix + longest * n, n}, {matrix, n}, {second, n}});
        const F length = F(root(sum_squares(second, n)));
        for (size_t i = 0; i < n; ++i)
            second[i] /= length;
        multiply(view, Product<F>{1, n, n, {second, n}, {matrix, n}, {first, n}});
        return top * F(root(sum_squares(first, n)));
    }

    // One gradient step of the factors, so that the whitened `seen` has the covariance of the
    // noise.
    void fit(const F* seen, int64_t t) {
        const size_t size = view.size;
        __builtin_memcpy(a, seen, size * sizeof(F));
        random_normal(t, size, b);
        for (int k = 0; k < count; ++k) {
            apply(k, a, false, free);
            F* last = a;
            a = free;
            solve(k, b, last);
            free = b;
            b = last;
        }
        const F top = top_of(a, size), other = top_of(b, size);
        const F unit = (other > top ? other : top) + F(tiny);
        F *const left = a, *const right = b;
        each_element(view, [=](size_t j) {
            left[j] /= unit;
            right[j] /= unit;
        });
        for (int k = 0; k < count; ++k)
            triangular(k) ? fit_triangular(k) : fit_diagonal(k);
    }
    void fit_diagonal(int k) const {
        const size_t n = axes[k].length;
        F *const q = factor(k), *const plus = row, *const minus = row + n, rate = F(h.precond_lr);
        squares(axes[k], a, plus);
        squares(axes[k], b, minus);
        for (size_t i = 0; i < n; ++i) {
            const F more = plus[i], less = minus[i];
            plus[i] = more + less;
            minus[i] = more - less;
        }
        const F most = top_of(plus, n) + F(tiny);
        for (size_t i = 0; i < n; ++i)
            q[i] -= rate * minus[i] * q[i] / most;
    }
    void fit_triangular(int k) const {
        const size_t n = axes[k].length;
        F *const q = factor(k), rate = F(h.precond_lr);
        by.gram(a, axes[k], memory, one);
        by.gram(b, axes[k], memory, two);
        for (size_t i = 0; i < n; ++i)
            for (size_t j = 0; j < n; ++j) {
                const F more = one[i * n + j], less = two[i * n + j];
                one[i * n + j] = more + less;
                two[i * n + j] = j < i ? F(0) : more - less;
            }
        const F most = norm(one, n) + F(tiny);
        multiply(view, Product<F>{n, n, n, {two, n}, {q, n}, {next, n}});
        for (size_t i = 0; i < n * n; ++i)
            q[i] -= rate * next[i] / most;
    }

    // Rescales the factors to the same largest element; their product does not change.
    void balance() const {
        double tops[most_axes], middle = 1;
        for (int k = 0; k < count; ++k) {
            tops[k] = double(top_of(factor(k), view.slot_sizes[1 + k]));
            if (!(tops[k] > 0 && tops[k] <= elementary::largest_number))
                return;
            middle *= elementary::power(tops[k], 1.0 / count);
        }
        for (int k = 0; k < count; ++k) {
            F* const q = factor(k);
            const F by_what = F(middle / tops[k]);
            for (size_t i = 0; i < view.slot_sizes[1 + k]; ++i)
                q[i] *= by_what;
        }
    }

    void update(int64_t t, double* scalars, const Prologue& prologue) {
        const Leaf<F> leaf(prologue, view);
        F *const average = leaf.slot(0), *seen = memory;
        const F kept = F(h.momentum), fresh = F(1 - h.momentum);
        const F unbias = F(1 - power(h.momentum, t));
        F *const gradient = free, *const unit = ones;
        each_element(view, [=](size_t i) {
            gradient[i] = leaf.gradient(i);
            unit[i] = 1;
            average[i] = kept * average[i] + fresh * gradient[i];
        });
        double &waited = scalars[0], &fits = scalars[1];
        const double given = h.preconditioner_update_probability;
        const double share = given < 0 ? annealed(t - 1) : given;
        waited += 1;
        // Without a gradient there is nothing to whiten, and the factors would grow without bound.
        if (share > 0 && waited >= 1 / share && moves(gradient)) {
            waited = 0;
            fits += 1;
            if (int64_t(fits) % 100 == 0)
                balance();
            each_element(view, [=](size_t i) { seen[i] = average[i] / unbias; });
            fit(seen, t);
        }
        seen = a;
        F* turned = b;
        each_element(view, [=](size_t i) { seen[i] = average[i] / unbias; });
        for (int k = 0; k < count; ++k) {
            apply(k, seen, false, turned);
            apply(k, turned, true, seen);
        }
        const double length = root(sum_squares(seen, view.size) / double(view.size));
        const double limit = 1.1 / (length + 1e-8);
        const F factor = F(limit < 1 ? limit : 1), rate = F(h.lr);
        const F decay = F(view.axes > 1 ? h.weight_decay : 0);
        F* const x = leaf.x;
        if (view.axes > 1)
            each_element(view, [=](size_t i) { x[i] -= rate * (factor * seen[i] + decay * x[i]); });
        else
            each_element(view, [=](size_t i) { x[i] -= rate * (factor * seen[i]); });
    }
    bool moves(const F* g) const {
        for (size_t i = 0; i < view.size; ++i)
            if (g[i] != 0)
                return true;
        return false;
    }

    static size_t scratch(const double* numbers, const WholeView& view) {
        return Kron(numbers, view, nullptr).bytes;
    }
    static void run(const double* numbers, int64_t t, double* scalars, const Prologue& prologue,
                    const WholeView& view) {
        Kron(numbers, view, static_cast<char*>(view.scratch)).update(t, scalars, prologue);
    }
};

} // namespace
} // namespace stepsize
