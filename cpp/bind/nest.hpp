// Finds the gradients in a nest of dict, list and tuple that has the shape of the parameters.
#pragma once

#include <memory>
#include <vector>

#include "bind/array.hpp"

namespace stepsize {

// The structure of a nest. Python describes it as nested tuples: ("leaf",), ("none",),
// ("dict", keys, children), ("list", children), ("tuple", children), or ("other",), which no walk
// follows, so that Python flattens it.
class Nest {
  public:
    explicit Nest(const py::tuple& description);

    // Appends one borrowed reference per leaf (None included); false where the structure differs.
    bool walk(PyObject* value, PyObject** leaves) const;

  private:
    enum class Kind { leaf, none, dict, list, tuple, other };

    bool descend(PyObject* value, PyObject**& next) const;

    Kind kind_;
    std::vector<py::object> keys_;
    std::vector<Nest> children_;
};

} // namespace stepsize
