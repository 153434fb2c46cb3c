// Many optimizers of one rule, each over its row of stacked arrays, stepped by one call.
#pragma once

#include <vector>

#include "bind/engine/engine.hpp"

namespace stepsize {

class Population {
  public:
    // The optimizers' engines and hosts, and the stacked parameters that they move.
    Population(const py::tuple& nest, const py::list& engines, const py::list& hosts,
               const py::list& params);
    ~Population() { release(); }
    Population(const Population&) = delete;
    Population& operator=(const Population&) = delete;

    // Checks everything first: an error changes nothing. Returns a list of statistics, or None.
    py::object step(const Host& host, py::handle grads, const py::list& losses, bool stats,
                    bool check);

  private:
    struct Ending;

    bool fits(size_t leaf, PyObject* gradient);
    void gather(const Host& host, py::handle grads);
    void check_params() const;
    void check_finite(const Host& host) const;
    void pin(Pins& pins) const;
    void run();
    void release();

    // A chunk of one engine's work.
    struct Part {
        const Engine* engine;
        size_t index;
    };

    Pytree nest_;
    std::vector<py::object> hosts_, engine_objects_;
    std::vector<Engine*> engines_;
    std::vector<py::array> params_;
    Occupied occupied_;         // by them
    std::vector<Dtype> dtypes_; // of the numbers, and NumPy's numbers of the types seen
    std::vector<int> types_;
    std::vector<std::vector<Py_ssize_t>> shapes_;
    std::vector<PyObject*> found_;      // this step's gradients: owned, or null
    std::vector<const char*> verified_; // address of a gradient that overlaps no parameter
    std::vector<Part> parts_;
    EngineMutex mutex_;
};

} // namespace stepsize
