#include "bind/engine/rows.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "bind/chunks.hpp"
#include "bind/engine/leaves.hpp"
#include "core/fpenv.hpp"

namespace stepsize {
namespace {

const int64_t* numbers_of(const py::array& rows) {
    constexpr int needed = contiguous_flag | aligned_flag;
    const py::dtype dtype = rows.dtype();
    if (rows.ndim() != 1 || dtype.kind() != 'i' || dtype.itemsize() != 8 ||
        (proxy(rows.ptr())->flags & needed) != needed)
        throw std::invalid_argument("rows must be a contiguous int64 vector");
    return static_cast<const int64_t*>(rows.data());
}

// The rows' places in the order of the rows, equal ones in the order they are given in: sorted by
// one byte after the other, which takes a tenth of the time of comparisons.
std::vector<size_t> places_in_order(const int64_t* rows, size_t count) {
    std::vector<size_t> places(count), next(count);
    std::iota(places.begin(), places.end(), size_t(0));
    if (std::is_sorted(rows, rows + count))
        return places;
    const int64_t last = *std::max_element(rows, rows + count);
    for (int shift = 0; shift < 64 && last >> shift; shift += 8) {
        const auto digit = [&](size_t place) { return size_t(rows[place] >> shift & 255); };
        std::array<size_t, 257> starts = {};
        for (const size_t place : places)
            ++starts[digit(place) + 1];
        std::partial_sum(starts.begin(), starts.end(), starts.begin());
        for (const size_t place : places)
            next[starts[digit(place)]++] = place;
        places.swap(next);
    }
    return places;
}

// Pieces of rows that make about a chunk.
size_t rows_at_once(size_t row_size) {
    return std::max(chunk_size / std::max(row_size, size_t(1)), size_t(1));
}

// Where the rows are, how they are joined, and the job of one stretch of them.
struct Merge {
    std::vector<size_t> places;
    std::vector<size_t> starts; // among the places: of each row, and the end
    size_t row_size;

    template <class F> void add(const F* values, F* totals, size_t from, size_t to) const {
        for (size_t row = from; row < to; ++row) {
            F* total = totals + row * row_size;
            const F* first = values + places[starts[row]] * row_size;
            for (size_t k = 0; k < row_size; ++k)
                total[k] = F(0) + first[k]; // -0 becomes 0, as in a sum that starts there
            for (size_t at = starts[row] + 1; at < starts[row + 1]; ++at) {
                const F* more = values + places[at] * row_size;
                for (size_t k = 0; k < row_size; ++k)
                    total[k] += more[k];
            }
        }
    }

    template <class F> void run(const py::array& values, py::array& totals) const {
        const F* from = static_cast<const F*>(values.data());
        F* to = static_cast<F*>(totals.mutable_data());
        const size_t rows = starts.size() - 1, step = rows_at_once(row_size);
        run_chunks((rows + step - 1) / step, size_t(values.size()), [&](size_t i) {
            const DefaultFloatingPoint environment;
            add(from, to, i * step, std::min(rows, (i + 1) * step));
        });
    }
};

} // namespace

py::tuple merge_rows(const py::array& rows, const py::array& values) {
    const int64_t* numbers = numbers_of(rows);
    const size_t count = size_t(rows.size());
    const bool wide = is_plain(values.ptr(), Dtype::float64);
    if (!(wide || is_plain(values.ptr(), Dtype::float32)) || values.ndim() < 1 ||
        size_t(values.shape(0)) != count)
        throw std::invalid_argument("values must be a contiguous float array, one for each row");
    if (count && *std::min_element(numbers, numbers + count) < 0)
        throw std::invalid_argument("rows must not be negative");

    Merge merge = {places_in_order(numbers, count), {}, count ? size_t(values.size()) / count : 0};
    std::vector<int64_t> once;
    for (size_t i = 0; i < count; ++i) {
        const int64_t row = numbers[merge.places[i]];
        if (!once.empty() && once.back() == row)
            continue;
        once.push_back(row);
        merge.starts.push_back(i);
    }
    merge.starts.push_back(count);

    std::vector<py::ssize_t> shape(values.shape(), values.shape() + values.ndim());
    shape[0] = py::ssize_t(once.size());
    py::array totals(values.dtype(), shape);
    Pins pins;
    pins.add(values.ptr());
    wide ? merge.run<double>(values, totals) : merge.run<float>(values, totals);
    return py::make_tuple(py::array(py::ssize_t(once.size()), once.data()), totals);
}

RowSlice::RowSlice(Leaf& leaf, size_t index, int slots, const py::array& rows)
    : index_(index), whole_x_(leaf.x), whole_size_(leaf.size), whole_length_(leaf.shape.at(0)),
      whole_slots_(leaf.slots), whole_bounds_(leaf.bounds) {
    const int64_t* numbers = numbers_of(rows);
    rows_.assign(numbers, numbers + rows.size());
    for (const int64_t row : rows_)
        if (row < 0 || row >= whole_length_)
            throw std::invalid_argument("a row lies outside of its leaf");
    row_size_ = whole_length_ ? whole_size_ / size_t(whole_length_) : 0;
    row_bytes_ = row_size_ * item_size(leaf.dtype);
    size_ = rows_.size() * row_size_;
    char* at = nullptr;
    const size_t most = size_t(slots + 1) + (leaf.bounds.each ? 2 : 0);
    arrays_.reserve(most); // before the leaf changes
    // A cache line more each, so that equal places of the arrays do not compete for one set.
    const size_t bytes = (rows_.size() * row_bytes_ + 127) / 64 * 64;
    if (slots >= 0) {
        memory_.reset(static_cast<char*>(::operator new[](most * bytes, std::align_val_t(64))));
        at = memory_.get();
        arrays_.push_back({leaf.x, at});
    }
    leaf.x = at;
    for (int k = 0; k < slots; ++k) {
        at += bytes;
        arrays_.push_back({static_cast<char*>(leaf.slots[size_t(k)].data), at});
        leaf.slots[size_t(k)].data = at;
    }
    written_ = arrays_.size();
    if (slots >= 0 && leaf.bounds.each) {
        for (const void** side : {&leaf.bounds.low, &leaf.bounds.high}) {
            at += bytes;
            arrays_.push_back({const_cast<char*>(static_cast<const char*>(*side)), at});
            *side = at;
        }
    }
    leaf.size = size_;
    leaf.shape[0] = Py_ssize_t(rows_.size());
}

void RowSlice::give_back(Leaf& leaf) const {
    leaf.x = whole_x_;
    leaf.size = whole_size_;
    leaf.shape[0] = whole_length_;
    leaf.slots = whole_slots_;
    leaf.bounds = whole_bounds_;
}

template <class Copy> void RowSlice::each(size_t count, const Copy& copy) const {
    const size_t step = rows_at_once(row_size_);
    run_chunks(arrays_.empty() ? 0 : (rows_.size() + step - 1) / step, size_, [&](size_t piece) {
        const size_t end = std::min(rows_.size(), (piece + 1) * step);
        for (size_t k = 0; k < count; ++k)
            for (size_t i = piece * step; i < end; ++i)
                copy(arrays_[k].whole + size_t(rows_[i]) * row_bytes_,
                     arrays_[k].rows + i * row_bytes_);
    });
}

void RowSlice::read() const {
    each(arrays_.size(),
         [this](const char* whole, char* row) { std::memcpy(row, whole, row_bytes_); });
}

void RowSlice::write() const {
    each(written_, [this](char* whole, const char* row) { std::memcpy(whole, row, row_bytes_); });
}

void Leaves::bind_rows(size_t i, const py::array& rows) {
    if (leaves_[i].complex)
        throw std::invalid_argument("rows of complex numbers cannot be bound");
    const Rule* rule = group_of(leaves_[i]).rule;
    rows_.reserve(leaves_.size()); // before a leaf has changed
    rows_.emplace_back(leaves_[i], i, rule ? rule->slots : -1, rows);
}

bool Leaves::unbind_rows() {
    if (rows_.empty())
        return false;
    for (const RowSlice& rows : rows_)
        rows.give_back(leaves_[rows.index()]);
    rows_.clear();
    return true;
}

void Leaves::read_rows() const {
    for (const RowSlice& rows : rows_)
        rows.read();
}

void Leaves::write_rows() const {
    for (const RowSlice& rows : rows_)
        rows.write();
}

} // namespace stepsize
