// The loop over a leaf that a rule sees as matrices: row by row, in units of rows. Sums along a row
// are taken in 16 lanes and a tree, those along a column row after row.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// Calls body(i, lane) for every i below count, a vector at a time; what is shorter than a vector
// has one lane, since joining 16 would take longer than the row.
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
    // The same for a rule whose decay is none of the loop's, without a look at the parameter.
    F slope(size_t i) const { return p.slope(g[i]); }
};

// Calls body(row, columns joined so far) for each row of a unit.
template <class R, class F, class Body>
inline void each_row(const void* bound, const Sheets& sheets, size_t unit, const Body& body) {
    const BoundRule<R, F> p = *static_cast<const BoundRule<R, F>*>(bound);
    const size_t matrix = unit / sheets.units, columns = sheets.columns;
    const size_t first = unit % sheets.units * sheets.unit_rows;
    const size_t left = sheets.rows - first, all = sheets.matrices * sheets.rows;
    const size_t count = left < sheets.unit_rows ? left : sheets.unit_rows;
    for (size_t k = 0; k < count; ++k) {
        const size_t row = matrix * sheets.rows + first + k, at = row * columns;
        F* slot = static_cast<F*>(sheets.slot);
        body(Row<R, F>{p,
                       columns,
                       static_cast<F*>(sheets.x) + at,
                       static_cast<const F*>(sheets.g) + at,
                       slot ? slot + at : nullptr,
                       static_cast<F*>(sheets.row_factors)[row],
                       static_cast<const F*>(sheets.column_factors) + matrix * columns,
                       {sheets.row_sums + row, sheets.row_sums + all + row}});
    }
}

template <class T> inline T* part_of(const Sheets& sheets, size_t unit) {
    T* part = static_cast<T*>(sheets.column_parts) + unit * sheets.columns;
    for (size_t i = 0; i < sheets.columns; ++i)
        part[i] = 0;
    return part;
}

template <class R, class F> void survey(const void* bound, const Sheets& sheets, size_t unit) {
    double* part = part_of<double>(sheets, unit);
    each_row<R, F>(bound, sheets, unit, [=](const Row<R, F>& row) { R::survey(row, part); });
}

template <class R, class F> void factor(const void* bound, const Sheets& sheets, size_t matrix) {
    static_cast<const BoundRule<R, F>*>(bound)->rule.factor(sheets, matrix);
}

template <class R, class F> void weigh(const void* bound, const Sheets& sheets, size_t unit) {
    each_row<R, F>(bound, sheets, unit, [](const Row<R, F>& row) { R::weigh(row); });
}

template <class R, class F> void advance(const void* bound, const Sheets& sheets, size_t unit) {
    F* part = R::by_axis ? part_of<F>(sheets, unit) : nullptr;
    each_row<R, F>(bound, sheets, unit, [=](const Row<R, F>& row) { R::advance(row, part); });
}

// What a rule offers for matrices: nothing, unless it says how it sees axes.
template <template <class> class R, class = void> struct AsMatrices {
    static constexpr void add_to(Rule&) {}
};

template <template <class> class R>
struct AsMatrices<R, typename Always<char[int(R<double>::by_axis) + 1]>::type> {
    template <class F> static constexpr void add(Rule& rule, int k) {
        rule.survey[k] = survey<R<F>, F>;
        rule.factor[k] = factor<R<F>, F>;
        rule.weigh[k] = weigh<R<F>, F>;
        rule.advance[k] = advance<R<F>, F>;
        rule.collect[k] = R<F>::collect;
    }
    static constexpr void add_to(Rule& rule) {
        rule.by_axis = R<double>::by_axis;
        add<float>(rule, 0);
        add<double>(rule, 1);
    }
};

template <template <class> class R> constexpr Rule with_sheets(Rule rule) {
    AsMatrices<R>::add_to(rule);
    return rule;
}

} // namespace
} // namespace stepsize
