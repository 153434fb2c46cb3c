#include "bind/engine/matrices.hpp"

#include <algorithm>

#include "bind/chunks.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// Parameters or gradients of a chunk, in double, into memory that there is.
void read_numbers(const Chunk& chunk, const void* data, std::vector<double>& numbers) {
    numbers.resize(chunk.span.size);
    for (size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = chunk.dtype == Dtype::float32 ? double(static_cast<const float*>(data)[i])
                                                   : static_cast<const double*>(data)[i];
}

// As add_extremes of the loop, for a whole chunk.
void add_extremes(double plain, double& small, double& large, const std::vector<double>& a,
                  const std::vector<double>* b) {
    const bool up = plain < least_sum;
    if (!up && plain < most_sum)
        return;
    const double scale = up ? 0x1p600 : 0x1p-600, inner = up ? 1 : scale, outer = up ? scale : 1;
    double& sum = up ? small : large;
    for (size_t i = 0; i < a.size(); ++i) {
        const double value = (a[i] * inner - (b ? (*b)[i] * inner : 0)) * outer;
        sum += value * value;
    }
}

} // namespace

// Enough panels for many threads, but none so thin that its column sums cost much in comparison.
size_t panel_rows(size_t rows, size_t columns) {
    constexpr size_t most_panels = 64, least_rows = 8;
    const size_t few = (rows + most_panels - 1) / most_panels;
    return std::max({few, least_rows, (chunk_size + columns - 1) / columns});
}

void MatrixPlan::clear() {
    matrices_.clear();
    wholes_.clear();
    panels_.clear();
}

void MatrixPlan::add(const Leaf& leaf, const void* gradient, size_t bound) {
    if (leaf.whole)
        return wholes_.add(leaf, gradient, bound);
    const Rule* rule = leaves_.group_of(leaf).rule;
    MatrixView view = {};
    view.x = leaf.x;
    view.g = gradient;
    view.axes = int(leaf.shape.size());
    std::copy(leaf.shape.begin(), leaf.shape.end(), view.lengths);
    view.columns = size_t(leaf.shape.back());
    const size_t all_rows = leaf.size / view.columns;
    view.rows = rule->by_axis ? all_rows : size_t(leaf.shape[leaf.shape.size() - 2]);
    view.matrices = all_rows / view.rows;
    view.panel_rows = std::min(view.rows, panel_rows(view.rows, view.columns));
    view.panels = (view.rows + view.panel_rows - 1) / view.panel_rows;
    view.slot = rule->by_axis ? leaf.vectors[0] : nullptr;
    std::copy(leaf.vectors.begin() + rule->by_axis, leaf.vectors.end(), view.vectors);

    const size_t panels = view.matrices * view.panels;
    if (scratch_.size() == matrices_.size())
        scratch_.emplace_back();
    std::vector<double>& scratch = scratch_[matrices_.size()];
    scratch.resize(all_rows * (max_row_sums + 1) + (panels + view.matrices) * view.columns);
    view.row_sums = scratch.data();
    double* at = view.row_sums + all_rows * max_row_sums;
    view.row_factors = at;
    view.column_parts = at += all_rows;
    view.column_factors = at + panels * view.columns;
    if (rule->by_axis)
        view.column_factors = view.vectors[view.axes - 1];

    const size_t few = std::max<size_t>(1, chunk_size / (view.panel_rows * view.columns));
    for (size_t first = 0; first < panels; first += few)
        panels_.push_back({matrices_.size(), first, std::min(panels, first + few)});
    matrices_.push_back({leaves_.index(leaf), bound, rule, leaf.dtype, view});
}

// Calls pass(leaf, its fields, panel) for every panel of every leaf.
template <class Pass> void MatrixPlan::sweep(size_t elements, const Pass& pass) const {
    run_chunks(panels_.size(), elements, [&](size_t i) {
        const MatrixLeaf& leaf = matrices_[panels_[i].leaf];
        for (size_t panel = panels_[i].first; panel < panels_[i].last; ++panel)
            pass(leaf, bound_[leaf.bound].fields, panel);
    });
}

void MatrixPlan::prepare(size_t elements) {
    // A rule of one pass may stand beside one of two.
    const auto sums = [](const MatrixLeaf& leaf) { return leaf.rule->sums > 0; };
    const bool two_passes = std::any_of(matrices_.begin(), matrices_.end(), sums);
    if (two_passes)
        sweep(elements, [=](const MatrixLeaf& leaf, const void* fields, size_t panel) {
            if (sums(leaf))
                leaf.rule->row_sums[int(leaf.dtype)](fields, leaf.view, panel);
        });
    for (const MatrixLeaf& leaf : matrices_)
        run_chunks(leaf.view.matrices, elements, [&](size_t matrix) {
            leaf.rule->factorize[int(leaf.dtype)](bound_[leaf.bound].fields, leaf.view, matrix);
        });
    if (!two_passes)
        return;
    sweep(elements, [=](const MatrixLeaf& leaf, const void* fields, size_t panel) {
        if (sums(leaf))
            leaf.rule->row_norms[int(leaf.dtype)](fields, leaf.view, panel);
    });
    for (const MatrixLeaf& leaf : matrices_)
        if (sums(leaf))
            settle(leaf);
}

// Adds up the sums of the rows, in blocks and lanes like every sum.
void MatrixPlan::settle(const MatrixLeaf& matrix) {
    Leaf& leaf = leaves_[matrix.leaf];
    const size_t rows = matrix.view.matrices * matrix.view.rows;
    double sums[max_sums + 1] = {};
    for (int k = 0; k < matrix.rule->sums; ++k)
        for (size_t at = 0; at < rows; at += chunk_size)
            sums[k] += table().sum_lanes(matrix.view.row_sums + size_t(k) * rows + at,
                                         std::min(chunk_size, rows - at));
    sums[matrix.rule->sums] = double(leaf.size);
    double numbers[max_numbers];
    leaves_.group_of(leaf).numbers(numbers);
    matrix.rule->settle(numbers, leaf.t + 1, leaves_.scalars_of(leaf), sums);
}

void MatrixPlan::reserve(const std::vector<Chunk>& chunks, bool stats) {
    before_.resize(stats ? chunks.size() : 0);
    for (size_t i = 0; i < before_.size(); ++i)
        if (chunks[i].matrix)
            before_[i].reserve(chunks[i].span.size);
    if (stats) {
        after_.reserve(chunk_size);
        terms_.reserve(chunk_size);
    }
}

// Statistics are computed from a copy of the leaf.
void MatrixPlan::update(size_t elements, const std::vector<Chunk>& chunks,
                        std::vector<Sums>& sums) {
    for (size_t i = 0; i < before_.size(); ++i) {
        const Chunk& chunk = chunks[i];
        if (!chunk.matrix)
            continue;
        const auto squares = table().sum_of_squares[int(chunk.dtype)];
        Sums& sum = sums[i];
        sum.grad = squares(chunk.span.g, chunk.span.size, 1);
        sum.param = squares(chunk.span.x, chunk.span.size, 1);
        read_numbers(chunk, chunk.span.x, before_[i]);
        if (chunk.dtype == Dtype::float32)
            continue;
        if (!(sum.grad >= least_sum && sum.grad < most_sum)) {
            read_numbers(chunk, chunk.span.g, after_);
            add_extremes(sum.grad, sum.small[0], sum.large[0], after_, nullptr);
        }
        add_extremes(sum.param, sum.small[1], sum.large[1], before_[i], nullptr);
    }
    sweep(elements, [](const MatrixLeaf& leaf, const void* fields, size_t panel) {
        leaf.rule->update[int(leaf.dtype)](fields, leaf.view, panel);
    });
    wholes_.update();
    for (const MatrixLeaf& leaf : matrices_)
        leaf.rule->merge_axes[int(leaf.dtype)](leaf.view);
    const auto constrained = [](const Chunk& chunk) {
        return chunk.matrix && chunk.span.bounds.low;
    };
    if (std::any_of(chunks.begin(), chunks.end(), constrained)) // else no pass for nothing
        run_chunks(chunks.size(), elements, [&](size_t i) {
            if (constrained(chunks[i]))
                table().constrain[int(chunks[i].dtype)](chunks[i].span);
        });
    for (size_t i = 0; i < before_.size(); ++i) {
        if (!chunks[i].matrix)
            continue;
        read_numbers(chunks[i], chunks[i].span.x, after_);
        terms_.resize(after_.size());
        for (size_t k = 0; k < after_.size(); ++k)
            terms_[k] = (after_[k] - before_[i][k]) * (after_[k] - before_[i][k]);
        Sums& sum = sums[i];
        sum.update = table().sum_lanes(terms_.data(), after_.size());
        if (chunks[i].dtype == Dtype::float64)
            add_extremes(sum.update, sum.small[2], sum.large[2], after_, &before_[i]);
    }
    before_.clear();
}

} // namespace stepsize
