// Tensors of other libraries, read in place through DLPack.
#pragma once

#include <vector>

#include "bind/numpy.hpp"

namespace stepsize {

// The address of a tensor's elements, contiguous and in CPU memory; null for every other object,
// dtype, shape and layout.
char* tensor_data(PyObject* object, Dtype dtype, const std::vector<Py_ssize_t>& shape);

// A fingerprint of the tensors in their groups with addresses and layouts: bytes that are equal if
// nothing has changed.
py::bytes layout(const py::list& groups);

} // namespace stepsize
