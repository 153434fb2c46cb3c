// Pytrees, here called nests: finds the gradients in a nest of dict, list and tuple with the
// structure of the parameters.
#pragma once

#include <memory>
#include <vector>

#include "bind/numpy.hpp"

namespace stepsize {

// The structure of a nest. Python describes it as nested tuples: ("leaf",), ("none",),
// ("dict", keys, children), ("list", children), ("tuple", children), or ("other",), which no walk
// follows, so that Python flattens it.
class Pytree {
  public:
    explicit Pytree(const py::tuple& description);

    // Puts a new reference to every leaf (None included) in its place, letting go of what was
    // there; false where the structure differs, and then places not yet visited keep their
    // contents.
    bool walk(PyObject* value, PyObject** leaves);

  private:
    enum class Kind { leaf, none, dict, list, tuple, other };

    // A child, and where its leaves begin among those of this nest.
    struct Child;

    bool descend(PyObject* value, PyObject** leaves);
    bool descend_dict(PyObject* value, PyObject** leaves);
    void learn(PyObject* value);

    Kind kind_;
    size_t leaf_count_ = 0;
    std::vector<py::object> keys_;
    py::dict child_of_; // key: number of the child
    std::vector<Child> children_;
    // The dict's keys in the order of the last walk: usually the same objects come again.
    struct Seen {
        py::object key;
        size_t child;
    };
    std::vector<Seen> seen_;
};

struct Pytree::Child {
    Pytree nest;
    size_t first;
};

} // namespace stepsize
