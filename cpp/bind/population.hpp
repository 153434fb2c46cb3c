// Many optimizers of one rule, each over its row of stacked arrays, stepped by one call.
#pragma once

#include <vector>

#include "bind/engine/engine.hpp"

namespace stepsize {

class Population {
  public:
    // The optimizers, their engines, and the stacked parameters that they move.
    Population(const py::tuple& nest, const py::list& optimizers, const py::list& params);

    // Checks everything first: an error has changed nothing. A list of statistics, or None.
    py::object step(py::handle owner, py::handle grads, const py::list& losses, bool stats,
                    bool check);

  private:
    bool fits(size_t leaf, PyObject* gradient);
    void gather(py::handle owner, py::handle grads);
    void check_finite(py::handle owner) const;
    void run();

    // A stretch of one engine's work.
    struct Part {
        const Engine* engine;
        size_t index;
    };

    Nest nest_;
    std::vector<py::object> optimizers_, engine_objects_;
    std::vector<Engine*> engines_;
    std::vector<py::array> params_;
    std::vector<std::vector<Py_ssize_t>> shapes_;
    std::vector<PyObject*> found_;      // this step's gradients, borrowed
    std::vector<const char*> verified_; // where a gradient was that overlaps no parameter
    std::vector<Part> parts_;
    std::recursive_mutex mutex_;
    py::object gathered_; // keeps gradients alive that Python had to copy
};

} // namespace stepsize
