// What the engine reads from a NumPy array, without NumPy's headers.
#pragma once

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

inline size_t item_size(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 8; }

// NumPy keeps one descriptor object per native type, so identity is a test; Python normalises
// others.
struct Descriptors {
    PyObject* of[dtype_count];
};

inline const Descriptors& descriptors() {
    static const Descriptors found = {
        {py::dtype::of<float>().release().ptr(), py::dtype::of<double>().release().ptr()}};
    return found;
}

inline bool is_plain(PyObject* array, Dtype dtype) {
    const int needed = contiguous_flag | aligned_flag;
    return proxy(array)->descr == descriptors().of[int(dtype)] &&
           (proxy(array)->flags & needed) == needed;
}

} // namespace stepsize
