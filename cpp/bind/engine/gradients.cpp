#include "bind/engine/gradients.hpp"

#include <stdexcept>

#include "bind/dlpack.hpp"
#include "core/targets.hpp"

namespace stepsize {

void GradientSource::finish() {
    found_.resize(leaves_.size());
    for (const Leaf& leaf : leaves_)
        gradients_.push_back({nullptr, leaf.dtype, leaf.type(), nullptr, Py_None});
}

// Whether the gradient has another supported dtype than the one before.
bool GradientSource::turns(size_t i, PyObject* object) {
    const Leaf& leaf = leaves_[i];
    if (leaf.dtype != Dtype::float32 || leaf.matrix || leaf.complex)
        return false;
    for (const Dtype dtype : {Dtype::float32, Dtype::float16, Dtype::bfloat16})
        if (is_plain(object, dtype)) {
            gradients_[i].dtype = dtype;
            gradients_[i].type = type_of(dtype);
            gradients_[i].verified = nullptr;
            note(Change::kind);
            return true;
        }
    return false;
}

// Records the address of a leaf's gradient; false if Python has to handle it first. Runs no Python
// code.
bool GradientSource::take(size_t i, PyObject* object) {
    const Leaf& leaf = leaves_[i];
    Gradient& gradient = gradients_[i];
    const char* data = nullptr;
    if (object != Py_None) {
        if (is_array(object)) {
            if (!(is_plain(object, gradient.type) || turns(i, object)) ||
                !has_shape(proxy(object), leaf.shape))
                return false;
            data = proxy(object)->data;
        } else {
            // Complex tensors go through Python.
            const bool direct = !leaves_.reference() && !leaf.complex;
            data = direct ? tensor_data(object, leaf.dtype, leaf.shape) : nullptr;
            if (gradient.dtype != leaf.dtype) {
                note(Change::kind);
                gradient.verified = nullptr; // of other bytes
            }
            gradient.dtype = leaf.dtype;
            gradient.type = leaf.type();
            if (!data)
                return false;
        }
        if (data != gradient.verified) {
            if (leaves_.overlaps(leaf, data, leaf.size * item_size(gradient.dtype)))
                return false;
            gradient.verified = data;
        }
    }
    put(gradient, object, data);
    return true;
}

bool GradientSource::gather_nest(py::handle grads) {
    holds_ = true;
    if (!nest_.walk(grads.ptr(), found_.data()))
        return false;
    for (size_t i = 0; i < found_.size(); ++i)
        if (is_subclass(found_[i]) || !take(i, found_[i])) // masked arrays etc. go to Python
            return false;
    return true;
}

void GradientSource::gather(const Host& host, py::handle grads) {
    if (gather_nest(grads))
        return;
    release();
    // Copies, conversions and error messages are made in Python.
    settle(host, host.gather(grads), 0);
}

void GradientSource::gather_leaf(const Host& host, size_t i, py::handle gradient) {
    gathered_ = py::reinterpret_borrow<py::object>(gradient);
    if (!is_subclass(gradient.ptr()) && take(i, gradient.ptr()))
        return;
    settle(host, host.gather_leaf(i, gradient), i);
}

// Takes what Python has made plain, of the leaves from this one on.
void GradientSource::settle(const Host& host, const py::list& flat, size_t first) {
    gathered_ = flat;
    for (size_t k = 0; k < flat.size(); ++k)
        if (!PyTuple_Check(flat[k].ptr()) && !take(first + k, flat[k].ptr()))
            flat[k] = flat[k].attr("copy")(); // it overlaps what is written
    leaves_.check(host);                      // once more: Python has run
    for (size_t k = 0; k < flat.size(); ++k) {
        const py::object given = flat[k];
        if (!PyTuple_Check(given.ptr())) {
            if (!take(first + k, given.ptr()))
                throw std::invalid_argument("a gradient could not be taken");
            continue;
        }
        const auto rows = py::reinterpret_borrow<py::tuple>(given);
        gradients_[first + k].verified = nullptr;
        note(Change::kind);
        leaves_.bind_rows(first + k, rows[1].cast<py::array>());
        if (!take(first + k, rows[0].ptr()))
            throw std::invalid_argument("a gradient of rows could not be taken");
    }
}

void GradientSource::gather_bound(const Host& host) {
    if (!bound_)
        host.fail("unbound");
    for (size_t i = 0; i < leaves_.size(); ++i)
        if (!take(i, PyList_GET_ITEM(bound_.ptr(), Py_ssize_t(i))))
            host.fail("overlap", i);
}

// Stacked gradients that the caller has checked and holds.
void GradientSource::gather_row(PyObject* const* stacked, size_t row) {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        Gradient& gradient = gradients_[i];
        const bool none = stacked[i] == Py_None;
        const char* data = none ? nullptr : proxy(stacked[i])->data + row * leaves_[i].bytes();
        put(gradient, stacked[i], data);
    }
    if (!leaves_.reference())
        return;
    py::list views;
    for (Gradient& gradient : gradients_) {
        const auto whole = py::reinterpret_borrow<py::object>(gradient.object);
        views.append(gradient.data ? py::object(whole[py::make_tuple(row, py::ellipsis())])
                                   : whole);
        gradient.object = views[views.size() - 1].ptr();
    }
    gathered_ = views;
}

void GradientSource::release() {
    if (holds_)
        for (PyObject*& object : found_)
            Py_CLEAR(object);
    holds_ = false;
    if (gathered_)
        gathered_ = py::object();
    if (!leaves_.unbind_rows())
        return;
    note(Change::kind);
    forget_verified();
}

void GradientSource::forget_verified() {
    for (Gradient& gradient : gradients_)
        gradient.verified = nullptr;
}

void GradientSource::bind(const Host& host, const py::list& flat) {
    const py::object before = bound_;
    bound_ = flat;
    try {
        gather_bound(host);
    } catch (...) {
        bound_ = before;
        throw;
    }
}

py::list GradientSource::objects() const {
    py::list flat;
    for (const Gradient& gradient : gradients_)
        flat.append(py::reinterpret_borrow<py::object>(gradient.object));
    return flat;
}

void GradientSource::pin(Pins& pins) const {
    for (size_t i = 0; i < gradients_.size(); ++i)
        pin_leaf(pins, i);
}

void GradientSource::pin_leaf(Pins& pins, size_t i) const {
    const Gradient& gradient = gradients_[i];
    if (gradient.data && is_array(gradient.object))
        pins.add(gradient.object);
}

int GradientSource::first_nonfinite(int octaves) const {
    for (size_t i = 0; i < gradients_.size(); ++i) {
        const Gradient& gradient = gradients_[i];
        if (gradient.data &&
            !table().all_finite[int(gradient.dtype)](gradient.data, leaves_[i].size, octaves))
            return int(i);
    }
    return -1;
}

size_t GradientSource::count_nonfinite() const {
    size_t count = 0;
    for (size_t i = 0; i < gradients_.size(); ++i) {
        const Gradient& gradient = gradients_[i];
        const auto finite = table().all_finite[int(gradient.dtype)];
        for (size_t k = 0; gradient.data && k < leaves_[i].size; ++k)
            count += !finite(gradient.data + k * item_size(gradient.dtype), 1, 1);
    }
    return count;
}

} // namespace stepsize
