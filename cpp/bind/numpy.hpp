// What the engine reads from a NumPy array, without NumPy's headers.
#pragma once

#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "core/types.hpp"

namespace stepsize {

namespace py = pybind11;

using ArrayProxy = py::detail::PyArray_Proxy;

inline ArrayProxy* proxy(PyObject* array) { return reinterpret_cast<ArrayProxy*>(array); }

constexpr int owner_flag = py::detail::npy_api::NPY_ARRAY_OWNDATA_;
constexpr int contiguous_flag = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;
constexpr int aligned_flag = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int writeable_flag = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

inline size_t item_size(Dtype dtype) {
    return dtype == Dtype::float32 ? 4 : dtype == Dtype::float64 ? 8 : 2;
}

inline bool is_narrow(Dtype dtype) { return item_size(dtype) == 2; }

// NumPy's type number of ml_dtypes' bfloat16, known once such an array was seen; -1 before.
inline int known_bfloat16 = -1;
inline int bfloat16_type() { return known_bfloat16; }
inline void register_bfloat16(int type) { known_bfloat16 = type; }

inline size_t item_size(Storage storage, size_t native) {
    return storage == Storage::native ? native : storage == Storage::bfloat16 ? 2 : 1;
}

// NumPy's type number of a dtype.
inline int type_of(Dtype dtype) {
    constexpr int half_type = 23; // NPY_HALF, which pybind11 does not name
    return dtype == Dtype::float32   ? py::detail::npy_api::NPY_FLOAT_
           : dtype == Dtype::float64 ? py::detail::npy_api::NPY_DOUBLE_
           : dtype == Dtype::float16 ? half_type
                                     : bfloat16_type();
}

// NumPy's type number of complex numbers whose two parts have a dtype, float32 or float64.
inline int complex_type_of(Dtype dtype) {
    return dtype == Dtype::float32 ? py::detail::npy_api::NPY_CFLOAT_
                                   : py::detail::npy_api::NPY_CDOUBLE_;
}

// An unpickled array has its own descriptor object, so identity is not enough.
inline bool has_type(PyObject* array, int type) {
    const auto* found = py::detail::array_descriptor_proxy(proxy(array)->descr);
    return found->type_num == type && found->byteorder == '=';
}

inline bool has_dtype(PyObject* array, Dtype dtype) { return has_type(array, type_of(dtype)); }

inline bool is_complex(PyObject* array) {
    return has_type(array, complex_type_of(Dtype::float32)) ||
           has_type(array, complex_type_of(Dtype::float64));
}

// A loop: the standard's comparison calls memcmp for the one or two numbers there are.
inline bool has_shape(const ArrayProxy* array, size_t count, const Py_ssize_t* shape) {
    bool same = size_t(array->nd) == count;
    for (size_t k = 0; same && k < count; ++k)
        same = array->dimensions[k] == shape[k];
    return same;
}

inline bool has_shape(const ArrayProxy* array, const std::vector<Py_ssize_t>& shape) {
    return has_shape(array, shape.size(), shape.data());
}

// Whether an object is a complex number, of Python's or NumPy's, alone in an array too: as a float
// it would lose its imaginary part.
inline bool is_complex_number(py::handle value) {
    if (PyFloat_CheckExact(value.ptr()))
        return false;
    if (PyComplex_Check(value.ptr()))
        return true;
    const py::object dtype = py::getattr(value, "dtype", py::none());
    return py::getattr(dtype, "kind", py::none()).equal(py::str("c"));
}

// Whether an object is a truth value, of any library, alone in an array too.
inline bool is_truth(py::handle value) {
    if (PyFloat_Check(value.ptr()))
        return false;
    if (PyBool_Check(value.ptr()))
        return true;
    const py::object dtype = py::getattr(value, "dtype", py::none());
    return !dtype.is_none() && py::str(dtype).attr("endswith")("bool").cast<bool>();
}

// A static inside the function would need a guard, which prevents inlining of is_array.
inline PyTypeObject* known_array_type = nullptr;
inline PyTypeObject* array_type() {
    if (!known_array_type)
        known_array_type = py::detail::npy_api::get().PyArray_Type_;
    return known_array_type;
}

inline bool is_array(PyObject* object) {
    PyTypeObject* const type = array_type();
    return Py_TYPE(object) == type || PyType_IsSubtype(Py_TYPE(object), type);
}

// Whether an array is of a subclass, such as numpy.ma's.
inline bool is_subclass(PyObject* object) {
    return Py_TYPE(object) != array_type() && is_array(object);
}

inline bool is_plain(PyObject* array, int type) {
    const int needed = contiguous_flag | aligned_flag;
    return has_type(array, type) && (proxy(array)->flags & needed) == needed;
}

inline bool is_plain(PyObject* array, Dtype dtype) { return is_plain(array, type_of(dtype)); }

// The array whose memory this one shows: itself, or what it is a view of.
inline ArrayProxy* memory_owner(PyObject* array) {
    ArrayProxy* owner = proxy(array);
    while (owner->base && is_array(owner->base))
        owner = proxy(owner->base);
    return owner;
}

// Pins an array's memory for the lifetime of the result: NumPy does not resize an array that has a
// weak reference, even with refcheck=False.
inline py::object keep_in_place(PyObject* array) {
    PyObject* owner = reinterpret_cast<PyObject*>(memory_owner(array));
    PyObject* reference = PyWeakref_NewRef(owner, nullptr);
    if (!reference)
        throw py::error_already_set();
    return py::reinterpret_steal<py::object>(reference);
}

// Pins the memory of arrays that others hold for its lifetime, at a few instructions each: NumPy
// does not resize an array that does not own its memory, and these claim so temporarily. Needed
// because other threads run while the kernels do.
class Pins {
  public:
    Pins() = default;
    Pins(const Pins&) = delete;
    Pins& operator=(const Pins&) = delete;
    ~Pins() {
        for (ArrayProxy* owner : owners_)
            owner->flags |= owner_flag;
    }
    void reserve(size_t count) { owners_.reserve(count); }
    void add(PyObject* array) {
        PyObject* base = proxy(array)->base;
        if (base && base == last_base_)
            return; // views of one array, such as packed leaves, follow each other
        last_base_ = base;
        add_owner(memory_owner(array));
    }
    void add_owner(ArrayProxy* owner) {
        if (!(owner->flags & owner_flag))
            return;
        owner->flags &= ~owner_flag;
        owners_.push_back(owner);
    }

  private:
    std::vector<ArrayProxy*> owners_;
    PyObject* last_base_ = nullptr;
};

} // namespace stepsize
