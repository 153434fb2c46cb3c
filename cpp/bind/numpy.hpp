// What the engine reads from a NumPy array, without NumPy's headers.
#pragma once

#include <algorithm>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "core/types.hpp"

namespace stepsize {

namespace py = pybind11;

using ArrayProxy = py::detail::PyArray_Proxy;

inline ArrayProxy* proxy(PyObject* array) { return reinterpret_cast<ArrayProxy*>(array); }

constexpr int contiguous_flag = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;
constexpr int aligned_flag = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int writeable_flag = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

inline size_t item_size(Dtype dtype) {
    return dtype == Dtype::float32 ? 4 : dtype == Dtype::float64 ? 8 : 2;
}

inline bool is_narrow(Dtype dtype) { return item_size(dtype) == 2; }

// NumPy's number for ml_dtypes' bfloat16, known once an array of it was met.
inline int& bfloat16_type() {
    static int type = -1;
    return type;
}

inline size_t item_size(Storage storage, size_t native) {
    return storage == Storage::native ? native : storage == Storage::bfloat16 ? 2 : 1;
}

// An unpickled array has a descriptor object of its own, so identity does not tell.
inline bool has_dtype(PyObject* array, Dtype dtype) {
    constexpr int half_type = 23; // NPY_HALF, which pybind11 does not name
    const auto* found = py::detail::array_descriptor_proxy(proxy(array)->descr);
    const int wanted = dtype == Dtype::float32   ? py::detail::npy_api::NPY_FLOAT_
                       : dtype == Dtype::float64 ? py::detail::npy_api::NPY_DOUBLE_
                       : dtype == Dtype::float16 ? half_type
                                                 : bfloat16_type();
    return found->type_num == wanted && found->byteorder == '=';
}

inline bool has_shape(const ArrayProxy* array, const std::vector<Py_ssize_t>& shape) {
    return size_t(array->nd) == shape.size() &&
           std::equal(shape.begin(), shape.end(), array->dimensions);
}

inline bool is_array(PyObject* object) {
    static PyTypeObject* const type = py::detail::npy_api::get().PyArray_Type_;
    return Py_TYPE(object) == type || PyType_IsSubtype(Py_TYPE(object), type);
}

inline bool is_plain(PyObject* array, Dtype dtype) {
    const int needed = contiguous_flag | aligned_flag;
    return has_dtype(array, dtype) && (proxy(array)->flags & needed) == needed;
}

} // namespace stepsize
