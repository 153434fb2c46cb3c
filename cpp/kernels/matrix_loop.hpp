// The loop over a leaf that a rule sees as matrices: row by row, in panels of rows. Sums along a
// row use 16 lanes and a tree; sums along a column add row after row.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// Calls body(i, lane) for every i below count, a vector at a time; a row shorter than a vector uses
// one lane, since reducing 16 would take longer than the row.
template <class Body> STEPSIZE_INLINE void walk(size_t count, const Body& body) {
    size_t i = 0;
    for (; count < lanes && i < count; ++i)
        body(i, 0);
    for (; i + lanes <= count; i += lanes) {
#pragma omp simd
        for (size_t j = 0; j < lanes; ++j)
            body(i + j, j);
    }
    for (size_t j = 0; i + j < count; ++j)
        body(i + j, j);
}

inline double total(const Lanes& sum, size_t count) {
    return count < lanes ? sum.sum[0] : sum.total();
}

// A row as the passes of a rule see it.
template <class R, class F> struct Row {
    const BoundRule<R, F>& p;
    size_t columns;
    F* x;
    const F* g;
    F* slot;
    F& factor;        // of the row
    const F* factors; // of the columns
    double* sums[max_row_sums];

    F gradient(size_t i) const { return p.gradient(g[i], x[i]); }
    // The same for a rule whose decay is not applied by the loop; the parameter is not read.
    F slope(size_t i) const { return p.slope(g[i]); }
};

// Calls body(row, columns reduced so far) for each row of a panel.
template <class R, class F, class Body>
inline void each_row(const void* bound, const MatrixView& view, size_t panel, const Body& body) {
    const BoundRule<R, F> p = *static_cast<const BoundRule<R, F>*>(bound);
    const size_t matrix = panel / view.panels, columns = view.columns;
    const size_t first = panel % view.panels * view.panel_rows;
    const size_t left = view.rows - first, all = view.matrices * view.rows;
    const size_t count = left < view.panel_rows ? left : view.panel_rows;
    for (size_t k = 0; k < count; ++k) {
        const size_t row = matrix * view.rows + first + k, at = row * columns;
        F* slot = static_cast<F*>(view.slot);
        body(Row<R, F>{p,
                       columns,
                       static_cast<F*>(view.x) + at,
                       static_cast<const F*>(view.g) + at,
                       slot ? slot + at : nullptr,
                       static_cast<F*>(view.row_factors)[row],
                       static_cast<const F*>(view.column_factors) + matrix * columns,
                       {view.row_sums + row, view.row_sums + all + row}});
    }
}

template <class T> inline T* part_of(const MatrixView& view, size_t panel) {
    T* part = static_cast<T*>(view.column_parts) + panel * view.columns;
    for (size_t i = 0; i < view.columns; ++i)
        part[i] = 0;
    return part;
}

template <class R, class F> void row_sums(const void* bound, const MatrixView& view, size_t panel) {
    double* part = part_of<double>(view, panel);
    each_row<R, F>(bound, view, panel, [=](const Row<R, F>& row) { R::row_sums(row, part); });
}

template <class R, class F>
void factorize(const void* bound, const MatrixView& view, size_t matrix) {
    static_cast<const BoundRule<R, F>*>(bound)->rule.factorize(view, matrix);
}

template <class R, class F>
void row_norms(const void* bound, const MatrixView& view, size_t panel) {
    each_row<R, F>(bound, view, panel, [](const Row<R, F>& row) { R::row_norms(row); });
}

template <class R, class F> void update(const void* bound, const MatrixView& view, size_t panel) {
    F* part = R::by_axis ? part_of<F>(view, panel) : nullptr;
    each_row<R, F>(bound, view, panel, [=](const Row<R, F>& row) { R::update(row, part); });
}

// A rule's functions for matrices: none, unless it declares how it treats axes.
template <template <class> class R, class = void> struct AsMatrices {
    static constexpr void add_to(Rule&) {}
};

template <template <class> class R>
struct AsMatrices<R, typename Always<char[int(R<double>::by_axis) + 1]>::type> {
    template <class F> static constexpr void add(Rule& rule, int k) {
        rule.row_sums[k] = row_sums<R<F>, F>;
        rule.factorize[k] = factorize<R<F>, F>;
        rule.row_norms[k] = row_norms<R<F>, F>;
        rule.update[k] = update<R<F>, F>;
        rule.merge_axes[k] = R<F>::merge_axes;
    }
    static constexpr void add_to(Rule& rule) {
        rule.by_axis = R<double>::by_axis;
        add<float>(rule, 0);
        add<double>(rule, 1);
    }
};

template <template <class> class R> constexpr Rule with_matrices(Rule rule) {
    AsMatrices<R>::add_to(rule);
    return rule;
}

} // namespace
} // namespace stepsize
