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

// Amsel et al. 2025, arXiv:2505.16932, Algorithm 1: of each iteration, the last one from then on.
constexpr double polar_express[][3] = {
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
    {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
    {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
    {1.875, -1.25, 0.375},
};
constexpr int polar_last = 7;
constexpr double safety = 1.01; // against rounding

template <class F> struct Muon {
    MuonNumbers h;
    const WholeView& view;
    size_t rows, columns;
    bool tall;           // then the transpose is iterated
    size_t small, large; // what is iterated has so many rows and columns
    MatrixRef<F> x, next, gram, poly;
    F *ones, *means;
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
        ones = scratch.take(columns);
        means = scratch.take(rows);
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

    // The update over its norm, as the iteration takes it; the norm may be beyond all numbers.
    void normalize() const {
        const double eps = h.eps * double(make_squarable(view, next.data));
        const double length =
            root(sum_squares(next.data, view.size)) * (h.ns_table > 0 ? safety : 1.0);
        const F norm = F(eps > length ? eps : length);
        if (tall)
            transpose<F>({next.data, columns}, rows, columns, x);
        for (size_t i = 0; i < small; ++i) {
            const F* from = tall ? x.row(i) : next.data + i * columns;
            F* to = x.row(i);
            for (size_t j = 0; j < large; ++j)
                to[j] = from[j] / norm;
        }
    }

    void coefficients(int step, double (&out)[3]) const {
        out[0] = h.ns_coefficient1;
        out[1] = h.ns_coefficient2;
        out[2] = h.ns_coefficient3;
        if (h.ns_table <= 0)
            return;
        const double* known = polar_express[step < polar_last ? step : polar_last];
        const double unit = step < polar_last ? safety : 1, cube = unit * unit * unit;
        out[0] = known[0] / unit;
        out[1] = known[1] / cube;
        out[2] = known[2] / (cube * unit * unit);
    }

    void iterate() {
        const MatrixRef<const F> given = {gram.data, gram.apart};
        for (int step = 0; step < int(h.ns_steps); ++step) {
            double polynomial[3];
            coefficients(step, polynomial);
            const MatrixRef<const F> from = {x.data, x.apart};
            Product<F> square = {small, small, large, from, from, gram};
            square.turned = square.symmetric = true;
            multiply(view, square);
            Product<F> quintic = {small, small, small, given, given, poly};
            quintic.symmetric = true;
            quintic.base = gram.data;
            quintic.kept = F(polynomial[1]);
            quintic.share = F(polynomial[2]);
            multiply(view, quintic);
            Product<F> product = {small, large, small, {poly.data, poly.apart}, from, next};
            product.base = x.data;
            product.kept = F(polynomial[0]);
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
        F* const p = static_cast<F*>(view.x);
        const F* const update = next.data;
        each_element(view, [=](size_t i) {
            const F shrunk = p[i] * shrink;
            p[i] = shrunk - rate * update[i];
        });
    }

    // What the iteration found goes to `next`, row after row of the leaf.
    void lay_out() const {
        if (tall)
            return transpose<F>({x.data, x.apart}, small, large, {next.data, columns});
        for (size_t i = 0; i < rows; ++i)
            __builtin_memcpy(next.data + i * columns, x.row(i), columns * sizeof(F));
    }

    // NorMuon, Li et al. 2025, arXiv:2510.05491, Algorithm 1: rows over the roots of their mean
    // squares, and the norm as it was.
    void normalize_rows() const {
        F* const kept = static_cast<F*>(view.slots[1]);
        F *const found = next.data, *const squares = x.data;
        each_element(view, [=](size_t i) { squares[i] = found[i] * found[i]; });
        for (size_t j = 0; j < columns; ++j)
            ones[j] = 1;
        multiply(view, Product<F>{rows, 1, columns, {squares, columns}, {ones, 1}, {means, 1}});
        const F fresh = F(1 - h.row_beta2);
        const double length = root(sum_squares(found, view.size));
        for (size_t i = 0; i < rows; ++i) {
            kept[i] = lerp(kept[i], means[i] / F(columns), fresh);
            const F factor = 1 / (root(kept[i]) + F(1e-10));
            for (size_t j = 0; j < columns; ++j)
                found[i * columns + j] *= factor;
        }
        const F back = F(length / (root(sum_squares(found, view.size)) + 1e-10));
        each_element(view, [=](size_t i) { found[i] *= back; });
    }

    static bool is_matrix(const double* numbers, const WholeView& view) {
        const MuonNumbers h = numbers_of<MuonNumbers>(numbers);
        return h.use_muon > 0 && (view.axes == 2 || (view.axes > 2 && h.flatten > 0));
    }
    static size_t scratch(const double* numbers, const WholeView& view) {
        return is_matrix(numbers, view) ? Muon(numbers, view, nullptr).bytes : 0;
    }
    static void run(const double* numbers, int64_t t, double*, const Prologue& prologue,
                    const WholeView& view) {
        if (!is_matrix(numbers, view))
            return MuonFlat<F>(numbers_of<MuonNumbers>(numbers), t).run(prologue, view);
        Muon matrix(numbers, view, static_cast<char*>(view.scratch));
        matrix.average(prologue);
        matrix.normalize();
        matrix.iterate();
        matrix.lay_out();
        if (view.slot_count > 1 && matrix.h.row_beta2 > 0)
            matrix.normalize_rows();
        matrix.move();
    }
};

} // namespace
} // namespace stepsize
