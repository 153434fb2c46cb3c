// Muon. Jordan et al. 2024: momentum whose matrices are made orthogonal by a quintic Newton-Schulz
// iteration. Leaves that are no matrices follow AdamW.
#pragma once

#include "kernels/whole.hpp"

namespace stepsize {
namespace {

template <class F> struct Muon {
    F step, beta2, fresh1, fresh2, unbias, eps, shrink;
    Muon(const MuonNumbers& h, StepContext context)
        : step(F(h.lr * h.adamw_scale / (1 - power(h.adamw_beta1, context.t)))),
          beta2(F(h.adamw_beta2)), fresh1(F(1 - h.adamw_beta1)), fresh2(F(1 - h.adamw_beta2)),
          unbias(F(1 / root(1 - power(h.adamw_beta2, context.t)))), eps(F(h.adamw_eps)),
          shrink(F(1 - h.lr * h.adamw_scale * h.weight_decay)) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        x *= shrink;
        x -= step * exp_avg / (root(exp_avg_sq) * unbias + eps);
    }
};

template <class F> struct MuonMatrix {
    MuonNumbers h;
    const WholeView& view;
    size_t rows, columns;
    bool tall;           // then the transpose is iterated
    size_t small, large; // what is iterated has so many rows and columns
    MatrixRef<F> x, next, gram, poly;
    size_t bytes;

    MuonMatrix(const double* numbers, const WholeView& view_, char* memory)
        : view(view_), rows(view.lengths[0]), columns(view.size / rows), tall(rows > columns),
          small(tall ? columns : rows), large(tall ? rows : columns) {
        __builtin_memcpy(&h, numbers, sizeof h);
        Scratch<F> scratch = {memory};
        x = scratch.matrix(small, large);
        next = scratch.matrix(small, large);
        gram = scratch.matrix(small, small);
        poly = scratch.matrix(small, small);
        bytes = scratch.bytes;
    }

    // Moves the momentum, and leaves the update in `next`, row after row of the leaf.
    void average(const Prologue& prologue) const {
        const Seen<F> seen(prologue);
        const F fresh = F(1 - h.momentum), kept = F(h.momentum);
        const bool nesterov = h.nesterov > 0;
        const F *g = static_cast<const F*>(view.g), *p = static_cast<const F*>(view.x);
        F* momentum = static_cast<F*>(view.slots[0]);
        F* update = next.data;
        each_chunk(view, view.size, [=](size_t first, size_t count) {
            for (size_t i = first; i < first + count; ++i) {
                const F gradient = seen(g[i], p[i]);
                const F moved = lerp(momentum[i], gradient, fresh);
                momentum[i] = moved;
                update[i] = nesterov ? lerp(gradient, moved, kept) : moved;
            }
        });
    }

    // The update over its norm, as the iteration takes it.
    void normalize() const {
        const double length = root(sum_squares(next.data, view.size));
        const F norm = F(h.eps > length ? h.eps : length);
        if (tall)
            transpose<F>({next.data, columns}, rows, columns, x);
        for (size_t i = 0; i < small; ++i) {
            const F* from = tall ? x.row(i) : next.data + i * columns;
            F* to = x.row(i);
            for (size_t j = 0; j < large; ++j)
                to[j] = from[j] / norm;
        }
    }

    void iterate() {
        const MatrixRef<const F> given = {gram.data, gram.apart};
        for (int step = 0; step < int(h.ns_steps); ++step) {
            const MatrixRef<const F> from = {x.data, x.apart};
            Product<F> square = {small, small, large, from, from, gram};
            square.turned = square.symmetric = true;
            multiply(view, square);
            Product<F> quintic = {small, small, small, given, given, poly};
            quintic.symmetric = true;
            quintic.base = gram.data;
            quintic.kept = F(h.ns_coefficient2);
            quintic.share = F(h.ns_coefficient3);
            multiply(view, quintic);
            Product<F> product = {small, large, small, {poly.data, poly.apart}, from, next};
            product.base = x.data;
            product.kept = F(h.ns_coefficient1);
            multiply(view, product);
            const MatrixRef<F> last = x;
            x = next;
            next = last;
        }
    }

    void move() const {
        const double m = double(rows), n = double(columns);
        const double ratio = m / n, longest = m > n ? m : n;
        const double scale =
            h.adjust_lr_fn > 0 ? 0.2 * root(longest) : root(ratio > 1 ? ratio : 1.0);
        const F shrink = F(1 - h.lr * h.weight_decay), rate = F(h.lr * scale);
        if (tall)
            transpose<F>({x.data, x.apart}, small, large, {next.data, columns});
        F* p = static_cast<F*>(view.x);
        for (size_t i = 0; i < rows; ++i) {
            const F* update = tall ? next.data + i * columns : x.row(i);
            F* to = p + i * columns;
            for (size_t j = 0; j < columns; ++j)
                to[j] = to[j] * shrink - rate * update[j];
        }
    }

    static size_t scratch(const double* numbers, const WholeView& view) {
        return MuonMatrix(numbers, view, nullptr).bytes;
    }
    static void run(const double* numbers, int64_t, double*, const Prologue& prologue,
                    const WholeView& view) {
        MuonMatrix matrix(numbers, view, static_cast<char*>(view.scratch));
        matrix.average(prologue);
        matrix.normalize();
        matrix.iterate();
        matrix.move();
    }
};

} // namespace
} // namespace stepsize
