// The calls that C++ makes into Python, each named once. The object is a StepHost of
// optimizers/host.py, which says what they do. It is an argument of a step and not part of the
// engine: an engine that owned its owner would be a cycle that the garbage collector cannot free.
#pragma once

#include <stdexcept>

#include "bind/interpreter.hpp"
#include "bind/numpy.hpp"

namespace stepsize {

struct Host {
    py::handle object;

    // The gradients as a flat list of plain arrays, None and rows.
    py::list gather(py::handle grads) const { return call("gather", grads); }

    // Raises the error of this kind.
    template <class... Details>
    [[noreturn]] void fail(const char* kind, const Details&... details) const {
        call("fail", kind, details...);
        throw std::runtime_error(std::string("the host let a step pass that must stop: ") + kind);
    }

    py::object step_stats(double grad, double update, double param, size_t nonfinite) const {
        return call("step_stats", grad, update, param, nonfinite);
    }

    // One step by the reference implementation, for rules without a compiled twin.
    Sums run_reference(const py::list& grads, double scale, bool stats) const {
        const py::tuple sums = call("run_reference", grads, scale, stats);
        return {sums[0].cast<double>(), sums[1].cast<double>(), sums[2].cast<double>()};
    }

    // Non-contiguous parameters, copied in and out.
    void read_strided() const { call("read_strided"); }
    void write_strided() const { call("write_strided"); }

    // Writes rows that the step updated in copies back into their leaves.
    void write_rows() const { call("write_rows"); }

  private:
    template <class... Arguments>
    py::object call(const char* name, const Arguments&... arguments) const {
        return call_python(object.attr(name), py::make_tuple(arguments...));
    }
};

} // namespace stepsize
