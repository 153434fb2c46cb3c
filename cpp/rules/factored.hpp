// Factored second moments: one number per row, column or axis index instead of per element.
#pragma once

#include "kernels/matrix_loop.hpp"

namespace stepsize {
namespace {

inline double machine_epsilon(float) { return 1.1920928955078125e-07; }
inline double machine_epsilon(double) { return 2.220446049250313e-16; }

// Not 0, which a small number becomes in a narrower type: 0 may not be divided by its root.
inline float positive(float a) { return a > 0 ? a : __FLT_MIN__; }
inline double positive(double a) { return a > 0 ? a : __DBL_MIN__; }

// Adafactor. Shazeer & Stern 2018, arXiv:1804.04235, Algorithm 4; Algorithm 5 for vectors.
template <class F> struct Adafactor {
    static constexpr int sums = 2;
    static constexpr bool by_axis = false, limited = true;
    enum { row_var, col_var };
    F fresh, tiny, floor, most, shrink, step;
    Adafactor(const AdafactorNumbers& h, StepContext context) {
        const double eps = h.eps1 > 0 ? h.eps1 : machine_epsilon(F());
        fresh = F(real_power(double(context.t), h.beta2_decay));
        tiny = positive(F(eps));
        floor = positive(F(eps * eps));
        most = F(minimum(1 / eps, double(Bits<F>::largest)));
        shrink = F(1 - h.lr * h.weight_decay);
        step = F(context.scalars[0]);
    }

    F scaled(F g, F variance) const { return g / root(maximum(floor, variance)); }
    Terms measure(F x, F g, F& variance) const {
        variance = lerp(variance, g * g, fresh);
        return {square(double(x)), square(double(scaled(g, variance)))};
    }
    static void settle(const AdafactorNumbers& h, StepContext context, const double* sums) {
        const double size = root(sums[0] / sums[2]), length = root(sums[1] / sums[2]);
        const double rate = minimum(h.lr, 1 / root(double(context.t)));
        context.scalars[0] = maximum(h.eps2, size) * rate / maximum(1.0, length / h.d);
    }
    void operator()(F& x, F g, F& variance) const {
        x *= shrink;
        x -= step * scaled(g, variance);
    }

    using Line = Row<Adafactor, F>;
    static void row_sums(const Line& row, double* column_sums) {
        Lanes squares, sizes;
        walk(row.columns, [&](size_t i, size_t j) {
            const double term = square(double(row.gradient(i)));
            column_sums[i] += term;
            squares.sum[j] += term;
            sizes.sum[j] += square(double(row.x[i]));
        });
        *row.sums[0] = total(sizes, row.columns);
        *row.sums[1] = total(squares, row.columns);
    }
    // The moments, and the inverse roots of their factors: 1 / sqrt(R C / mean R) is their product.
    void factorize(const MatrixView& view, size_t matrix) const {
        const size_t rows = view.rows, columns = view.columns;
        F* by_row = static_cast<F*>(view.vectors[row_var]) + matrix * rows;
        F* by_column = static_cast<F*>(view.vectors[col_var]) + matrix * columns;
        F* row_factors = static_cast<F*>(view.row_factors) + matrix * rows;
        F* column_factors = static_cast<F*>(view.column_factors) + matrix * columns;
        const double* squares = view.row_sums + (view.matrices + matrix) * rows;
        Lanes moments;
        walk(rows, [&](size_t i, size_t j) {
            by_row[i] = lerp(by_row[i], F(squares[i] / double(columns)), fresh);
            moments.sum[j] += double(by_row[i]);
        });
        const F middle = maximum(F(total(moments, rows) / double(rows)), tiny);
        for (size_t i = 0; i < rows; ++i)
            row_factors[i] = 1 / root(by_row[i] / middle);
        double* parts = static_cast<double*>(view.column_parts) + matrix * view.panels * columns;
        for (size_t panel = 1; panel < view.panels; ++panel)
            for (size_t j = 0; j < columns; ++j)
                parts[j] += parts[panel * columns + j];
        for (size_t j = 0; j < columns; ++j) {
            by_column[j] = lerp(by_column[j], F(parts[j] / double(rows)), fresh);
            column_factors[j] = 1 / root(by_column[j]);
        }
    }
    static F scaled(const Line& row, size_t i, F gradient) {
        return gradient * minimum(row.p.rule.most, row.factor * row.factors[i]);
    }
    static void row_norms(const Line& row) {
        Lanes squares; // NaN parameters have made the factors NaN
        walk(row.columns, [&](size_t i, size_t j) {
            squares.sum[j] += square(double(scaled(row, i, row.slope(i))));
        });
        *row.sums[1] = total(squares, row.columns);
    }
    static void update(const Line& row, F*) {
        const F shrink = row.p.rule.shrink, step = row.p.rule.step;
        walk(row.columns, [&](size_t i, size_t) {
            const F change = step * scaled(row, i, row.gradient(i));
            row.x[i] = row.x[i] * shrink - change;
        });
    }
    static void merge_axes(const MatrixView&) {}
};

// Maximum of two numbers >= 0, where NaN is the largest: the order of many does not matter.
inline int32_t height(float a) { return int32_t(bits_of(a) & 0x7fffffffu); }
inline int64_t height(double a) {
    return int64_t(__builtin_bit_cast(uint64_t, a) & ~uint64_t(0) >> 1);
}
template <class F> inline F topmost(F a, F b) {
    const auto p = height(a), q = height(b);
    return __builtin_bit_cast(F, p > q ? p : q);
}
template <class F> inline F topmost_of(const F* numbers) {
    auto top = height(numbers[0]);
#pragma omp simd reduction(max : top)
    for (size_t j = 1; j < lanes; ++j)
        top = top > height(numbers[j]) ? top : height(numbers[j]);
    return __builtin_bit_cast(F, top);
}

// Minimum of two numbers, NaN if one is NaN.
template <class F> inline F lowest(F a, F b) { return select((a < b) | (a != a), a, b); }

// SM3. Anil et al. 2019, arXiv:1901.11150, Algorithm SM3-II.
template <class F> struct SM3 {
    static constexpr bool by_axis = true;
    F lr, momentum, pull, fresh, beta2, eps;
    SM3(const SM3Numbers& h, StepContext)
        : lr(F(h.lr)), momentum(F(h.momentum)), pull(F(1 - h.momentum)),
          fresh(F(h.beta2 < 1 ? 1 - h.beta2 : 1)), beta2(F(h.beta2)), eps(F(h.eps)) {}

    F follow(F& x, F g, F& exp_avg, F least) const {
        const F total = fresh * g * g + beta2 * least;
        const F change = select(total > 0, g / root(total + eps), F(0));
        exp_avg = momentum * exp_avg + pull * change;
        x -= lr * exp_avg;
        return total;
    }
    void operator()(F& x, F g, F& exp_avg, F& axis0) const { axis0 = follow(x, g, exp_avg, axis0); }

    using Line = Row<SM3, F>;
    static void row_sums(const Line&, double*) {}
    static void row_norms(const Line&) {}
    // The least maximum of each row over all axes but the last.
    void factorize(const MatrixView& view, size_t) const {
        F* least = static_cast<F*>(view.row_factors);
        each_index(view, [=](size_t row, int axis, F& kept) {
            least[row] = axis == 0 ? kept : lowest(least[row], kept);
        });
    }
    static void update(const Line& row, F* column_tops) {
        const SM3 rule = row.p.rule;
        F tops[lanes] = {};
        const F* kept = row.factors;
        const F least = row.factor;
        walk(row.columns, [&](size_t i, size_t j) {
            const F total =
                rule.follow(row.x[i], row.gradient(i), row.slot[i], lowest(least, kept[i]));
            tops[j] = topmost(tops[j], total);
            column_tops[i] = topmost(column_tops[i], total);
        });
        row.factor = row.columns < lanes ? tops[0] : topmost_of(tops);
    }
    static void merge_axes(const MatrixView& view) {
        const F* tops = static_cast<const F*>(view.row_factors);
        for (int axis = 0; axis + 1 < view.axes; ++axis)
            for (size_t i = 0; i < view.lengths[axis]; ++i)
                static_cast<F*>(view.vectors[axis])[i] = 0;
        each_index(view, [=](size_t row, int, F& kept) { kept = topmost(kept, tops[row]); });
        const F* parts = static_cast<const F*>(view.column_parts);
        F* last = static_cast<F*>(view.vectors[view.axes - 1]);
        for (size_t j = 0; j < view.columns; ++j)
            last[j] = parts[j];
        for (size_t panel = 1; panel < view.panels; ++panel)
            for (size_t j = 0; j < view.columns; ++j)
                last[j] = topmost(last[j], parts[panel * view.columns + j]);
    }
    // Calls body(row, axis, the number kept for the row's index on that axis) for all rows and all
    // axes but the last.
    template <class Body> static void each_index(const MatrixView& view, const Body& body) {
        size_t apart = view.rows; // rows between two steps along the axis
        for (int axis = 0; axis + 1 < view.axes; ++axis) {
            const size_t length = view.lengths[axis];
            F* kept = static_cast<F*>(view.vectors[axis]);
            const size_t around = apart;
            apart /= length;
            for (size_t start = 0; start < view.rows; start += around)
                for (size_t i = 0; i < length; ++i)
                    for (size_t k = 0; k < apart; ++k)
                        body(start + i * apart + k, axis, kept[i]);
        }
    }
};

} // namespace
} // namespace stepsize
