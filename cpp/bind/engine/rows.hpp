// Gradients of some rows of a leaf: those given twice are added up, and for one step the rows and
// their state lie in memory of their own.
#pragma once

#include <array>
#include <memory>
#include <new>
#include <vector>

#include "bind/numpy.hpp"

namespace stepsize {

struct Leaf;

// Each row once, in order, and its gradient: 0 and then its values, in the order they are given in.
py::tuple merge_rows(const py::array& rows, const py::array& values);

// Some rows of a leaf and of its state, side by side: the loop sees them as it sees a leaf, so that
// sums and bits are those of a leaf that has these rows alone.
class RowSlice {
  public:
    // From here to `give_back` they stand in the leaf's place; what they hold is not read yet.
    // Rows of a leaf that the reference implementation moves have no memory here.
    RowSlice(Leaf& leaf, size_t index, int slots, const py::array& rows);
    void give_back(Leaf& leaf) const;
    size_t index() const { return index_; }

    void read() const;
    void write() const; // all of it: nothing here can fail

  private:
    struct Freed {
        void operator()(char* memory) const { ::operator delete[](memory, std::align_val_t(64)); }
    };
    struct Array {
        char *whole, *rows;
    };

    template <class Copy> void each(size_t count, const Copy& copy) const;

    size_t index_, size_;
    size_t row_size_, row_bytes_;
    std::vector<int64_t> rows_;
    std::vector<Array> arrays_; // parameters and state, and bounds, which are only read
    size_t written_ = 0;
    std::unique_ptr<char[], Freed> memory_;
    // The leaf as it was.
    char* whole_x_;
    size_t whole_size_;
    Py_ssize_t whole_length_;
    std::array<Slot, max_slots> whole_slots_;
    Bounds whole_bounds_;
};

} // namespace stepsize
