// Muon. Jordan et al. 2024: momentum whose matrices are made orthogonal by a quintic Newton-Schulz
// iteration. Leaves that are no matrices follow AdamW.
#pragma once

#include "kernels/whole.hpp"

namespace stepsize {
namespace {

// AdamW, for the leaves that are no matrices.
template <class F> struct MuonFlat {
    F step, beta2, fresh1, fresh2, unbias, eps, shrink;
    MuonFlat(const MuonNumbers& h, int64_t t)
        : step(F(h.lr * h.adamw_scale / (1 - power(h.adamw_beta1, t)))), beta2(F(h.adamw_beta2)),
          fresh1(F(1 - h.adamw_beta1)), fresh2(F(1 - h.adamw_beta2)),
          unbias(F(1 / root(1 - power(h.adamw_beta2, t)))), eps(F(h.adamw_eps)),
          shrink(F(1 - h.lr * h.adamw_scale * h.weight_decay)) {}

    void run(const Prologue& prologue, const WholeView& view) const {
        const MuonFlat p = *this;
        const Leaf<F> leaf(prologue, view);
        F *first = leaf.slot(0), *second = leaf.slot(1);
        each_element(view, [=](size_t i) {
            const F g = leaf.gradient(i);
            first[i] = lerp(first[i], g, p.fresh1);
            second[i] = p.beta2 * second[i] + p.fresh2 * g * g;
            leaf.x[i] *= p.shrink;
            leaf.x[i] -= p.step * first[i] / (root(second[i]) * p.unbias + p.eps);
        });
    }
};

template <class F> struct Muon {
    MuonNumbers h;
    const WholeView& view;
    size_t rows, columns;
    bool tall;           // then the transpose is iterated
    size_t small, large; // what is iterated has so many rows and columns
    MatrixRef<F> x, next, gram, poly;
    size_t bytes;

    Muon(const double* numbers, const WholeView& view_, char* memory)
        : h(numbers_of<MuonNumbers>(numbers)), view(view_), rows(view.lengths[0]),
          columns(view.size / rows), tall(rows > columns), small(tall ? columns : rows),
          large(tall ? rows : columns) {
        Scratch<F> scratch = {memory};
        x = scratch.matrix(small, large);
        next = scratch.matrix(small, large);
        gram = scratch.matrix(small, small);
        poly = scratch.matrix(small, small);
        bytes = scratch.bytes;
    }

    // Moves the momentum, and leaves the update in `next`, row after row of the leaf.
    void average(const Prologue& prologue) const {
        const F fresh = F(1 - h.momentum), kept = F(h.momentum);
        const bool nesterov = h.nesterov > 0;
        const Leaf<F> leaf(prologue, view);
        F *momentum = leaf.slot(0), *update = next.data;
        each_element(view, [=](size_t i) {
            const F g = leaf.gradient(i);
            const F moved = lerp(momentum[i], g, fresh);
            momentum[i] = moved;
            update[i] = nesterov ? lerp(g, moved, kept) : moved;
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

    static bool is_matrix(const WholeView& view) { return view.slot_count == 1; }
    static size_t scratch(const double* numbers, const WholeView& view) {
        return is_matrix(view) ? Muon(numbers, view, nullptr).bytes : 0;
    }
    static void run(const double* numbers, int64_t t, double*, const Prologue& prologue,
                    const WholeView& view) {
        if (!is_matrix(view))
            return MuonFlat<F>(numbers_of<MuonNumbers>(numbers), t).run(prologue, view);
        Muon matrix(numbers, view, static_cast<char*>(view.scratch));
        matrix.average(prologue);
        matrix.normalize();
        matrix.iterate();
        matrix.move();
    }
};

} // namespace
} // namespace stepsize
