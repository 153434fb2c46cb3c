#include "bind/engine/matrices.hpp"

#include <algorithm>

#include "bind/chunks.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// The parameters of a chunk, in double.
std::vector<double> numbers_of(const Chunk& chunk) {
    std::vector<double> numbers(chunk.span.size);
    for (size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = chunk.dtype == Dtype::float32
                         ? double(static_cast<const float*>(chunk.span.x)[i])
                         : static_cast<const double*>(chunk.span.x)[i];
    return numbers;
}

} // namespace

// Enough units for many threads, none so thin that the sums by column weigh much beside it.
size_t unit_rows(size_t rows, size_t columns) {
    constexpr size_t most_units = 64, least_rows = 8;
    const size_t few = (rows + most_units - 1) / most_units;
    return std::max({few, least_rows, (chunk_size + columns - 1) / columns});
}

void MatrixPlan::clear() {
    seen_.clear();
    units_.clear();
}

void MatrixPlan::add(const Leaf& leaf, const void* gradient, size_t bound) {
    const Rule* rule = leaves_.group_of(leaf).rule;
    Sheets sheets = {};
    sheets.x = leaf.x;
    sheets.g = gradient;
    sheets.axes = int(leaf.shape.size());
    std::copy(leaf.shape.begin(), leaf.shape.end(), sheets.lengths);
    sheets.columns = size_t(leaf.shape.back());
    const size_t all_rows = leaf.size / sheets.columns;
    sheets.rows = rule->by_axis ? all_rows : size_t(leaf.shape[leaf.shape.size() - 2]);
    sheets.matrices = all_rows / sheets.rows;
    sheets.unit_rows = std::min(sheets.rows, unit_rows(sheets.rows, sheets.columns));
    sheets.units = (sheets.rows + sheets.unit_rows - 1) / sheets.unit_rows;
    sheets.slot = rule->by_axis ? leaf.vectors[0] : nullptr;
    std::copy(leaf.vectors.begin() + rule->by_axis, leaf.vectors.end(), sheets.vectors);

    const size_t units = sheets.matrices * sheets.units;
    std::vector<double> scratch(all_rows * (max_row_sums + 1) +
                                (units + sheets.matrices) * sheets.columns);
    sheets.row_sums = scratch.data();
    double* at = sheets.row_sums + all_rows * max_row_sums;
    sheets.row_factors = at;
    sheets.column_parts = at += all_rows;
    sheets.column_factors = at + units * sheets.columns;
    if (rule->by_axis)
        sheets.column_factors = sheets.vectors[sheets.axes - 1];

    const size_t few = std::max<size_t>(1, chunk_size / (sheets.unit_rows * sheets.columns));
    for (size_t first = 0; first < units; first += few)
        units_.push_back({seen_.size(), first, std::min(units, first + few)});
    seen_.push_back({leaves_.index(leaf), bound, rule, leaf.dtype, sheets, std::move(scratch)});
}

// Calls pass(leaf, its fields, unit) for every unit of every leaf.
template <class Pass> void MatrixPlan::sweep(size_t elements, const Pass& pass) const {
    run_chunks(units_.size(), elements, [&](size_t i) {
        const Seen& seen = seen_[units_[i].seen];
        for (size_t unit = units_[i].first; unit < units_[i].last; ++unit)
            pass(seen, bound_[seen.bound].fields, unit);
    });
}

void MatrixPlan::survey(size_t elements) {
    if (leaves_.two_passes())
        sweep(elements, [](const Seen& seen, const void* fields, size_t unit) {
            seen.rule->survey[int(seen.dtype)](fields, seen.sheets, unit);
        });
    for (const Seen& seen : seen_)
        run_chunks(seen.sheets.matrices, elements, [&](size_t matrix) {
            seen.rule->factor[int(seen.dtype)](bound_[seen.bound].fields, seen.sheets, matrix);
        });
    if (!leaves_.two_passes())
        return;
    sweep(elements, [](const Seen& seen, const void* fields, size_t unit) {
        seen.rule->weigh[int(seen.dtype)](fields, seen.sheets, unit);
    });
    for (const Seen& seen : seen_)
        settle(seen);
}

// Adds up what the rows found, in blocks and lanes as every sum.
void MatrixPlan::settle(const Seen& seen) {
    Leaf& leaf = leaves_[seen.leaf];
    const size_t rows = seen.sheets.matrices * seen.sheets.rows;
    double sums[max_sums + 1] = {};
    for (int k = 0; k < seen.rule->sums; ++k)
        for (size_t at = 0; at < rows; at += chunk_size)
            sums[k] += table().sum_lanes(seen.sheets.row_sums + size_t(k) * rows + at,
                                         std::min(chunk_size, rows - at));
    sums[seen.rule->sums] = double(leaf.size);
    double numbers[max_numbers];
    leaves_.group_of(leaf).numbers(numbers);
    seen.rule->settle(numbers, leaf.t + 1, leaves_.scalars_of(leaf), sums);
}

// With statistics, from a copy of the leaf.
void MatrixPlan::advance(size_t elements, const std::vector<Chunk>& chunks,
                         std::vector<Sums>& sums) {
    std::vector<std::vector<double>> before(sums.size());
    for (size_t i = 0; i < before.size(); ++i) {
        const Chunk& chunk = chunks[i];
        if (!chunk.matrix)
            continue;
        const auto squares = table().sum_of_squares[int(chunk.dtype)];
        sums[i] = {squares(chunk.span.g, chunk.span.size, 1),
                   squares(chunk.span.x, chunk.span.size, 1), 0};
        before[i] = numbers_of(chunk);
    }
    sweep(elements, [](const Seen& seen, const void* fields, size_t unit) {
        seen.rule->advance[int(seen.dtype)](fields, seen.sheets, unit);
    });
    for (const Seen& seen : seen_)
        seen.rule->collect[int(seen.dtype)](seen.sheets);
    for (size_t i = 0; i < before.size(); ++i) {
        if (!chunks[i].matrix)
            continue;
        const std::vector<double> after = numbers_of(chunks[i]);
        for (size_t k = 0; k < after.size(); ++k)
            before[i][k] = (after[k] - before[i][k]) * (after[k] - before[i][k]);
        sums[i].update = table().sum_lanes(before[i].data(), after.size());
    }
}

} // namespace stepsize
