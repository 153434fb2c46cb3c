// Tensors of other libraries, read where they lie.
#pragma once

#include <vector>

#include "bind/numpy.hpp"

namespace stepsize {

// Where the elements of a tensor lie, side by side and in CPU memory; null for every other object,
// dtype, shape and layout.
char* tensor_data(PyObject* object, Dtype dtype, const std::vector<Py_ssize_t>& shape);

// Which tensors there are in which group, and where and how they lie, as bytes that are equal where
// nothing has changed.
py::bytes layout(const py::list& groups);

} // namespace stepsize
