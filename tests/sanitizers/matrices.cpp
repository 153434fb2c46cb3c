// Steps of a rule that sees its leaf as matrices.
#include <algorithm>

#include "checks.hpp"

namespace stepsize {
namespace checks {
namespace {

// One unit of rows and several, many matrices, rows longer than a chunk, more axes than two.
struct Shape {
    int axes;
    size_t lengths[4];
};
constexpr Shape shapes[shape_count] = {
    {2, {1, 1}},        {2, {1, 17}},       {2, {17, 1}},      {2, {33, 65}},
    {4, {3, 2, 5, 16}}, {4, {10, 7, 3, 3}}, {3, {2, 200, 50}}, {2, {3, chunk_size + 9}}};

class Matrix {
  public:
    Matrix(const Table& table, int rule, Dtype dtype, const Shape& shape, Source& source)
        : table_(table), rule_(table.rules[rule]), dtype_(dtype), memory_(dtype) {
        view_.axes = shape.axes;
        std::copy(shape.lengths, shape.lengths + shape.axes, view_.lengths);
        size_ = 1;
        for (int axis = 0; axis < view_.axes; ++axis)
            size_ *= view_.lengths[axis];
        view_.columns = view_.lengths[view_.axes - 1];
        const size_t all_rows = size_ / view_.columns;
        view_.rows = rule_.by_axis ? all_rows : view_.lengths[view_.axes - 2];
        view_.matrices = all_rows / view_.rows;
        view_.panel_rows = std::min(view_.rows, 1 + source.below(20));
        view_.panels = (view_.rows + view_.panel_rows - 1) / view_.panel_rows;
        options_ = source.word();
        place(all_rows, source);
        scalars_of(rule_, scalars_);
        prologue_ = {1, 1e300, 0.01 * double(source.below(2)), 1, 0, 0};
    }

    void step(int64_t t, Source& source) {
        fill(*gradient_, dtype_, source, false);
        const int k = int(dtype_);
        double numbers[max_numbers] = {};
        numbers_of(rule_, options_, numbers);
        const size_t panels = view_.matrices * view_.panels;
        rule_.prepare[k](numbers, t, scalars_, prologue_, bound_);
        if (rule_.sums)
            share(panels, [&](size_t i) { rule_.row_sums[k](bound_, view_, i); });
        share(view_.matrices, [&](size_t i) { rule_.factorize[k](bound_, view_, i); });
        if (rule_.sums) {
            share(panels, [&](size_t i) { rule_.row_norms[k](bound_, view_, i); });
            settle(numbers, t);
            rule_.prepare[k](numbers, t, scalars_, prologue_, bound_);
        }
        share(panels, [&](size_t i) { rule_.update[k](bound_, view_, i); });
        rule_.merge_axes[k](view_);
    }

    uint64_t digest() const {
        Digest found = memory_.digest();
        found.numbers<double>(scalars_, max_scalars);
        return found.value();
    }

  private:
    void place(size_t all_rows, Source& source) {
        const Block& x = memory_.state(size_);
        fill(x, dtype_, source, false);
        view_.x = x.data();
        gradient_ = &memory_.block(size_ * width_of(dtype_));
        view_.g = gradient_->data();
        if (rule_.by_axis) {
            view_.slot = memory_.state(size_).data();
            for (int axis = 0; axis < view_.axes; ++axis)
                view_.vectors[axis] = memory_.state(view_.lengths[axis]).data();
        } else {
            view_.vectors[0] = memory_.state(all_rows).data();
            view_.vectors[1] = memory_.state(view_.matrices * view_.columns).data();
        }
        const size_t parts = view_.matrices * view_.panels * view_.columns;
        view_.row_sums = reinterpret_cast<double*>(
            memory_.block(all_rows * max_row_sums * sizeof(double)).data());
        view_.column_parts = memory_.block(parts * sizeof(double)).data();
        view_.row_factors = memory_.block(all_rows * sizeof(double)).data();
        view_.column_factors =
            rule_.by_axis ? view_.vectors[view_.axes - 1]
                          : memory_.block(view_.matrices * view_.columns * sizeof(double)).data();
    }
    void settle(const double* numbers, int64_t t) {
        const size_t rows = view_.matrices * view_.rows;
        double sums[max_sums + 1] = {};
        for (int k = 0; k < rule_.sums; ++k)
            for (size_t at = 0; at < rows; at += chunk_size)
                sums[k] += table_.sum_lanes(view_.row_sums + size_t(k) * rows + at,
                                            std::min(chunk_size, rows - at));
        sums[rule_.sums] = double(size_);
        rule_.settle(numbers, t, scalars_, sums);
    }

    const Table& table_;
    const Rule& rule_;
    const Dtype dtype_;
    Memory memory_;
    size_t size_;
    uint64_t options_;
    MatrixView view_ = {};
    Prologue prologue_ = {};
    const Block* gradient_ = nullptr;
    double scalars_[max_scalars] = {};
    alignas(64) unsigned char bound_[max_bound_rule];
};

} // namespace

uint64_t matrices(const Table& table, int rule, Dtype dtype, size_t shape, Source source) {
    Matrix matrix(table, rule, dtype, shapes[shape], source);
    for (int64_t t = 1; t <= 3; ++t)
        matrix.step(t, source);
    return matrix.digest();
}

} // namespace checks
} // namespace stepsize
