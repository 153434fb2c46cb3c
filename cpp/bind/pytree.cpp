#include "bind/pytree.hpp"

#include <string>

namespace stepsize {

Pytree::Pytree(const py::tuple& description) : kind_(Kind::other) {
    const std::string kind = description[0].cast<std::string>();
    if (kind == "leaf")
        kind_ = Kind::leaf;
    else if (kind == "none")
        kind_ = Kind::none;
    else if (kind == "dict")
        kind_ = Kind::dict;
    else if (kind == "list")
        kind_ = Kind::list;
    else if (kind == "tuple")
        kind_ = Kind::tuple;
    if (kind_ == Kind::dict)
        for (py::handle key : description[1]) {
            child_of_[key] = keys_.size();
            keys_.push_back(py::reinterpret_borrow<py::object>(key));
        }
    if (kind_ == Kind::leaf)
        leaf_count_ = 1;
    if (description.size() > 1)
        for (py::handle child : description[description.size() - 1]) {
            children_.push_back({Pytree(child.cast<py::tuple>()), leaf_count_});
            leaf_count_ += children_.back().nest.leaf_count_;
        }
}

bool Pytree::walk(PyObject* value, PyObject** leaves) {
    if (kind_ == Kind::leaf) {
        PyObject* before = *leaves; // left by a failed walk in another order
        Py_INCREF(value);
        *leaves = value;
        Py_XDECREF(before);
        return true;
    }
    if (kind_ == Kind::none)
        return value == Py_None;
    // Comparing keys of user-defined classes may run code that changes the nest meanwhile.
    const auto held = py::reinterpret_borrow<py::object>(value);
    return descend(value, leaves);
}

bool Pytree::descend(PyObject* value, PyObject** leaves) {
    if (kind_ == Kind::dict)
        return descend_dict(value, leaves);
    const bool list = kind_ == Kind::list && PyList_CheckExact(value);
    if (!list && !(kind_ == Kind::tuple && PyTuple_Check(value)))
        return false;
    const Py_ssize_t count = Py_ssize_t(children_.size());
    if (PySequence_Fast_GET_SIZE(value) != count)
        return false;
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (PySequence_Fast_GET_SIZE(value) != count)
            return false;
        Child& child = children_[size_t(i)];
        if (!child.nest.walk(PySequence_Fast_GET_ITEM(value, i), leaves + child.first))
            return false;
    }
    return true;
}

// Equal text is told without a lookup. Runs no Python code.
static bool same_key(PyObject* key, PyObject* seen) {
    return key == seen || (PyUnicode_CheckExact(key) && PyUnicode_CheckExact(seen) &&
                           PyUnicode_Compare(key, seen) == 0);
}

bool Pytree::descend_dict(PyObject* value, PyObject** leaves) {
    if (!PyDict_CheckExact(value) || size_t(PyDict_GET_SIZE(value)) != children_.size())
        return false;
    Py_ssize_t at = 0;
    PyObject *key, *item;
    size_t matched = 0;
    while (matched < seen_.size() && PyDict_Next(value, &at, &key, &item)) {
        if (!same_key(key, seen_[matched].key.ptr()))
            break;
        Child& child = children_[seen_[matched].child];
        if (!child.nest.walk(item, leaves + child.first))
            return false;
        ++matched;
    }
    if (matched == children_.size())
        return true;
    for (size_t i = 0; i < children_.size(); ++i) {
        item = PyDict_GetItemWithError(value, keys_[i].ptr());
        if (!item) {
            PyErr_Clear();
            return false;
        }
        if (!children_[i].nest.walk(item, leaves + children_[i].first))
            return false;
    }
    learn(value);
    return true;
}

// Caches the order of a dict of the same size in which every expected key was found.
void Pytree::learn(PyObject* value) {
    seen_.clear();
    Py_ssize_t at = 0;
    PyObject *key, *item;
    while (PyDict_Next(value, &at, &key, &item)) {
        const auto held = py::reinterpret_borrow<py::object>(key);
        PyObject* child = PyDict_GetItemWithError(child_of_.ptr(), key);
        if (!child) {
            PyErr_Clear();
            seen_.clear();
            return;
        }
        seen_.push_back({held, PyLong_AsSize_t(child)});
    }
}

} // namespace stepsize
