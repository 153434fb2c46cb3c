// The engine's part for leaves that a rule sees as matrices: their layout and their passes.
#include <algorithm>
#include <stdexcept>

#include "bind/engine.hpp"
#include "core/targets.hpp"

namespace stepsize {

// Enough units for many threads, none so thin that the sums by column weigh much beside it.
size_t panel_rows(size_t rows, size_t columns) {
    constexpr size_t most_units = 64, least_rows = 8;
    const size_t few = (rows + most_units - 1) / most_units;
    return std::max({few, least_rows, (chunk_size + columns - 1) / columns});
}

// The state of a leaf seen as matrices: arrays of its size, of which a rule has one at most, and of
// the lengths of its axes, or of its rows and columns.
void Engine::add_vectors(Leaf& leaf, const py::list& slots) const {
    const Rule& rule = *groups_[size_t(leaf.group)].rule;
    std::vector<size_t> sizes;
    if (rule.by_axis) {
        sizes.assign(leaf.shape.begin(), leaf.shape.end());
        sizes.insert(sizes.begin(), leaf.size);
    } else {
        size_t matrices = 1;
        for (size_t k = 0; k + 2 < leaf.shape.size(); ++k)
            matrices *= size_t(leaf.shape[k]);
        const size_t rows = size_t(leaf.shape[leaf.shape.size() - 2]);
        sizes = {matrices * rows, matrices * size_t(leaf.shape.back())};
    }
    if (leaf.shape.size() > max_axes || slots.size() != sizes.size())
        throw std::invalid_argument(std::string(rule.name) + ": wrong number of axes or arrays");
    for (size_t k = 0; k < sizes.size(); ++k) {
        const py::array array = slots[k].cast<py::tuple>()[0].cast<py::array>();
        if (!is_plain(array.ptr(), leaf.dtype) || size_t(array.size()) != sizes[k])
            throw std::invalid_argument(std::string(rule.name) +
                                        ": state of a wrong size or dtype");
        leaf.vectors.push_back(proxy(array.ptr())->data);
    }
}

// The parameters of a stretch of work, in double.
std::vector<double> Engine::numbers_of(const Work& work) {
    std::vector<double> numbers(work.span.size);
    for (size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = work.dtype == Dtype::float32
                         ? double(static_cast<const float*>(work.span.x)[i])
                         : static_cast<const double*>(work.span.x)[i];
    return numbers;
}

void Engine::lay_out_sheets(Leaf& leaf, size_t prepared) {
    const Rule* rule = groups_[size_t(leaf.group)].rule;
    MatrixView sheets = {};
    sheets.x = leaf.x;
    sheets.g = leaf.g;
    sheets.axes = int(leaf.shape.size());
    std::copy(leaf.shape.begin(), leaf.shape.end(), sheets.lengths);
    sheets.columns = size_t(leaf.shape.back());
    const size_t all_rows = leaf.size / sheets.columns;
    sheets.rows = rule->by_axis ? all_rows : size_t(leaf.shape[leaf.shape.size() - 2]);
    sheets.matrices = all_rows / sheets.rows;
    sheets.panel_rows = std::min(sheets.rows, panel_rows(sheets.rows, sheets.columns));
    sheets.panels = (sheets.rows + sheets.panel_rows - 1) / sheets.panel_rows;
    sheets.slot = rule->by_axis ? leaf.vectors[0] : nullptr;
    std::copy(leaf.vectors.begin() + rule->by_axis, leaf.vectors.end(), sheets.vectors);

    const size_t units = sheets.matrices * sheets.panels;
    leaf.scratch.resize(all_rows * (max_row_sums + 1) + (units + sheets.matrices) * sheets.columns);
    sheets.row_sums = leaf.scratch.data();
    double* at = sheets.row_sums + all_rows * max_row_sums;
    sheets.row_factors = at;
    sheets.column_parts = at += all_rows;
    sheets.column_factors = at + units * sheets.columns;
    if (rule->by_axis)
        sheets.column_factors = sheets.vectors[sheets.axes - 1];

    const size_t few = std::max<size_t>(1, chunk_size / (sheets.panel_rows * sheets.columns));
    for (size_t first = 0; first < units; first += few)
        units_.push_back({seen_.size(), first, std::min(units, first + few)});
    seen_.push_back({size_t(&leaf - leaves_.data()), prepared, rule, leaf.dtype, sheets});
}

// Calls pass(leaf, its fields, unit) for every unit of every leaf.
template <class Pass> void Engine::sweep(const Pass& pass) {
    spread(units_.size(), [&](size_t i) {
        const MatrixLeaf& seen = seen_[units_[i].seen];
        for (size_t unit = units_[i].first; unit < units_[i].last; ++unit)
            pass(seen, prepared_[seen.prepared].fields, unit);
    });
}

void Engine::survey_sheets(double scale) {
    prepare(scale);
    if (two_passes_)
        sweep([](const MatrixLeaf& seen, const void* fields, size_t unit) {
            seen.rule->row_sums[int(seen.dtype)](fields, seen.sheets, unit);
        });
    for (const MatrixLeaf& seen : seen_)
        spread(seen.sheets.matrices, [&](size_t matrix) {
            seen.rule->factorize[int(seen.dtype)](prepared_[seen.prepared].fields, seen.sheets,
                                                  matrix);
        });
    if (!two_passes_)
        return;
    sweep([](const MatrixLeaf& seen, const void* fields, size_t unit) {
        seen.rule->row_norms[int(seen.dtype)](fields, seen.sheets, unit);
    });
    for (const MatrixLeaf& seen : seen_)
        settle_sheets(seen);
}

// Adds up what the rows found, in blocks and lanes as every sum.
void Engine::settle_sheets(const MatrixLeaf& seen) {
    Leaf& leaf = leaves_[seen.leaf];
    const size_t rows = seen.sheets.matrices * seen.sheets.rows;
    double sums[max_sums + 1] = {};
    for (int k = 0; k < seen.rule->sums; ++k)
        for (size_t at = 0; at < rows; at += chunk_size)
            sums[k] += table().sum_lanes(seen.sheets.row_sums + size_t(k) * rows + at,
                                         std::min(chunk_size, rows - at));
    sums[seen.rule->sums] = double(leaf.size);
    double numbers[max_numbers];
    rule_numbers(groups_[size_t(leaf.group)], numbers);
    seen.rule->settle(numbers, leaf.t + 1, memory_of(leaf), sums);
}

// The last pass; with statistics, from a copy of the leaf.
void Engine::advance_sheets(bool stats) {
    std::vector<std::vector<double>> before(stats ? work_.size() : 0);
    for (size_t i = 0; i < before.size(); ++i) {
        const Work& work = work_[i];
        if (!work.sheets)
            continue;
        const auto squares = table().sum_of_squares[int(work.dtype)];
        sums_[i] = {squares(work.span.g, work.span.size, 1),
                    squares(work.span.x, work.span.size, 1), 0};
        before[i] = numbers_of(work);
    }
    sweep([](const MatrixLeaf& seen, const void* fields, size_t unit) {
        seen.rule->update[int(seen.dtype)](fields, seen.sheets, unit);
    });
    for (const MatrixLeaf& seen : seen_)
        seen.rule->merge_axes[int(seen.dtype)](seen.sheets);
    for (size_t i = 0; i < before.size(); ++i) {
        if (!work_[i].sheets)
            continue;
        const std::vector<double> after = numbers_of(work_[i]);
        for (size_t k = 0; k < after.size(); ++k)
            before[i][k] = (after[k] - before[i][k]) * (after[k] - before[i][k]);
        sums_[i].update = table().sum_lanes(before[i].data(), after.size());
    }
}

} // namespace stepsize
