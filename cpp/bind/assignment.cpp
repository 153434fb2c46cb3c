#include "bind/assignment.hpp"

#include <cstring>
#include <memory>
#include <stdexcept>

namespace stepsize {
namespace {

constexpr const char* capsule_name = "stepsize.assignment";

// The numbers of an array of so many axes, from strides to strides.
void copy(char* to, const Py_ssize_t* to_strides, const char* from, const Py_ssize_t* from_strides,
          const Py_ssize_t* lengths, size_t axes, size_t width) {
    if (axes == 0) {
        std::memcpy(to, from, width);
        return;
    }
    const bool last =
        axes == 1 && to_strides[0] == Py_ssize_t(width) && from_strides[0] == to_strides[0];
    if (last) {
        std::memcpy(to, from, size_t(lengths[0]) * width);
        return;
    }
    for (Py_ssize_t i = 0; i < lengths[0]; ++i)
        copy(to + i * to_strides[0], to_strides + 1, from + i * from_strides[0], from_strides + 1,
             lengths + 1, axes - 1, width);
}

bool is_whole(const ArrayProxy* array) { return (array->flags & contiguous_flag) != 0; }

PyObject* call(PyObject* self, PyObject*) {
    if (!assignment_of(self).run()) {
        PyErr_SetString(PyExc_ValueError, "an array has changed its shape or is read-only");
        return nullptr;
    }
    Py_RETURN_NONE;
}

PyMethodDef method = {"assignment", call, METH_NOARGS, "Write the values into the targets."};

} // namespace

Assignment::Assignment(const py::list& targets, const py::list& values, const py::object& rows) {
    const auto places = rows.is_none() ? py::list() : rows.cast<py::list>();
    if (targets.size() != values.size() || (!rows.is_none() && places.size() != values.size()))
        throw std::invalid_argument("assignment: as many values as targets are needed");
    items_.reserve(targets.size());
    for (size_t i = 0; i < targets.size(); ++i) {
        Item item = {targets[i].cast<py::array>(), values[i].cast<py::array>(), {}, {}};
        if (item.target.ptr() != py::handle(targets[i]).ptr() ||
            item.value.ptr() != py::handle(values[i]).ptr() ||
            !item.target.dtype().equal(item.value.dtype()))
            throw std::invalid_argument("assignment: arrays of one dtype are needed");
        item.shape.assign(item.value.shape(), item.value.shape() + item.value.ndim());
        if (!rows.is_none())
            item.rows = py::object(places[i]);
        const size_t skipped = item.rows ? 1 : 0;
        bool alike = item.target.ndim() == item.value.ndim();
        for (size_t k = skipped; alike && k < item.shape.size(); ++k)
            alike = item.target.shape(py::ssize_t(k)) == item.shape[k];
        if (item.rows) {
            const auto numbers = item.rows.cast<py::array_t<int64_t>>();
            alike = alike && !item.shape.empty() && numbers.ptr() == item.rows.ptr() &&
                    numbers.ndim() == 1 && numbers.shape(0) == item.shape[0];
            for (py::ssize_t k = 0; alike && k < numbers.shape(0); ++k)
                alike = numbers.at(k) >= 0 && numbers.at(k) < item.target.shape(0);
        }
        if (!alike)
            throw std::invalid_argument("assignment: arrays of one shape are needed");
        items_.push_back(item);
    }
}

bool Assignment::run() const noexcept {
    for (const Item& item : items_) {
        const ArrayProxy *to = proxy(item.target.ptr()), *from = proxy(item.value.ptr());
        if (!(to->flags & writeable_flag) || !has_shape(from, item.shape) || to->nd != from->nd)
            return false;
        for (size_t k = item.rows ? 1 : 0; k < item.shape.size(); ++k)
            if (to->dimensions[k] != item.shape[k])
                return false;
    }
    for (const Item& item : items_) {
        const ArrayProxy *to = proxy(item.target.ptr()), *from = proxy(item.value.ptr());
        const size_t width = size_t(item.value.itemsize()), axes = item.shape.size();
        if (!item.rows) {
            if (is_whole(to) && is_whole(from))
                std::memmove(to->data, from->data, size_t(item.value.nbytes()));
            else
                copy(to->data, to->strides, from->data, from->strides, item.shape.data(), axes,
                     width);
            continue;
        }
        const ArrayProxy* rows = proxy(item.rows.ptr());
        for (Py_ssize_t i = 0; i < item.shape[0]; ++i) {
            int64_t row = 0;
            std::memcpy(&row, rows->data + i * rows->strides[0], sizeof row);
            if (row < to->dimensions[0])
                copy(to->data + row * to->strides[0], to->strides + 1,
                     from->data + i * from->strides[0], from->strides + 1, item.shape.data() + 1,
                     axes - 1, width);
        }
    }
    return true;
}

py::object assignment(const py::list& targets, const py::list& values, const py::object& rows) {
    auto made = std::make_unique<Assignment>(targets, values, rows);
    const py::capsule held(made.get(), capsule_name, [](PyObject* capsule) {
        delete static_cast<Assignment*>(PyCapsule_GetPointer(capsule, capsule_name));
    });
    made.release();
    PyObject* function = PyCFunction_New(&method, held.ptr());
    if (!function)
        throw py::error_already_set();
    return py::reinterpret_steal<py::object>(function);
}

const Assignment& assignment_of(py::handle call) {
    PyObject* self = PyCFunction_Check(call.ptr()) ? PyCFunction_GET_SELF(call.ptr()) : call.ptr();
    void* held = self ? PyCapsule_GetPointer(self, capsule_name) : nullptr;
    if (!held)
        throw py::error_already_set();
    return *static_cast<const Assignment*>(held);
}

} // namespace stepsize
