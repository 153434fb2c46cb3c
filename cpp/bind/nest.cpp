#include "bind/nest.hpp"

#include <string>

namespace stepsize {

Nest::Nest(const py::tuple& description) : kind_(Kind::other) {
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
        for (py::handle key : description[1])
            keys_.push_back(py::reinterpret_borrow<py::object>(key));
    if (description.size() > 1)
        for (py::handle child : description[description.size() - 1])
            children_.emplace_back(child.cast<py::tuple>());
}

bool Nest::walk(PyObject* value, PyObject** leaves) const { return descend(value, leaves); }

bool Nest::descend(PyObject* value, PyObject**& next) const {
    switch (kind_) {
    case Kind::leaf:
        *next++ = value;
        return true;
    case Kind::none:
        return value == Py_None;
    case Kind::dict:
        if (!PyDict_CheckExact(value) || size_t(PyDict_GET_SIZE(value)) != keys_.size())
            return false;
        for (size_t i = 0; i < keys_.size(); ++i) {
            PyObject* item = PyDict_GetItemWithError(value, keys_[i].ptr());
            if (!item) {
                PyErr_Clear();
                return false;
            }
            if (!children_[i].descend(item, next))
                return false;
        }
        return true;
    case Kind::list:
        if (!PyList_CheckExact(value) || size_t(PyList_GET_SIZE(value)) != children_.size())
            return false;
        for (size_t i = 0; i < children_.size(); ++i)
            if (!children_[i].descend(PyList_GET_ITEM(value, Py_ssize_t(i)), next))
                return false;
        return true;
    case Kind::tuple:
        if (!PyTuple_Check(value) || size_t(PyTuple_GET_SIZE(value)) != children_.size())
            return false;
        for (size_t i = 0; i < children_.size(); ++i)
            if (!children_[i].descend(PyTuple_GET_ITEM(value, Py_ssize_t(i)), next))
                return false;
        return true;
    case Kind::other:
        break;
    }
    return false;
}

} // namespace stepsize
