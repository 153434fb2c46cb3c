// Writes of arrays into arrays that allocate nothing, so that none can fail after the first.
#pragma once

#include <vector>

#include "bind/numpy.hpp"

namespace stepsize {

class Assignment {
  public:
    // Targets and values of one dtype and shape, in any layout; ValueError for others. Where there
    // are rows, int64 numbers by target, a value has as many rows and the target gets them there.
    Assignment(const py::list& targets, const py::list& values, const py::object& rows);

    // Copies the numbers as they are now. False where an array has another shape than it had.
    bool run() const noexcept;

  private:
    struct Item {
        py::array target, value;
        std::vector<Py_ssize_t> shape; // of the value
        py::object rows;               // an array, or null
    };
    std::vector<Item> items_;
};

// A call in C that runs the assignment: Python looks for no signal and allocates nothing in it.
py::object assignment(const py::list& targets, const py::list& values, const py::object& rows);
const Assignment& assignment_of(py::handle call);

} // namespace stepsize
