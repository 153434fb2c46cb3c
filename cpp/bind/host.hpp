// The calls that C++ makes into Python, each named once. The object is a StepHost of
// optimizers/host.py, which says what they do. It is an argument of a step and not part of the
// engine: an engine that owned its owner would be a cycle that the garbage collector cannot free.
#pragma once

#include <stdexcept>
#include <vector>

#include "bind/interpreter.hpp"
#include "bind/numpy.hpp"

namespace stepsize {

struct Host {
    py::handle object;

    // The gradients as a flat list of plain arrays, None and rows.
    py::list gather(py::handle grads) const { return call("gather", grads); }

    // The same for the gradient of one leaf, as a list of one.
    py::list gather_leaf(size_t leaf, py::handle gradient) const {
        return call("gather_leaf", leaf, gradient);
    }

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
        const py::tuple found = call("run_reference", grads, scale, stats);
        double sums[9]; // in the order of Sums
        for (size_t k = 0; k < 9; ++k)
            sums[k] = found[k].cast<double>();
        return {
            sums[0], sums[1], sums[2], {sums[3], sums[4], sums[5]}, {sums[6], sums[7], sums[8]}};
    }

    // For a rank that holds a part of the leaves: sums over the chunks of all ranks, from the leaf
    // of each chunk here and `width` terms of it. `by_leaf`: a row of totals for each leaf here,
    // else one row, or none where no rank has a chunk.
    std::vector<double> combine(bool by_leaf, const std::vector<int64_t>& leaves,
                                const std::vector<double>& terms, size_t width) const {
        const py::bytes places(reinterpret_cast<const char*>(leaves.data()),
                               leaves.size() * sizeof(int64_t));
        const py::bytes numbers(reinterpret_cast<const char*>(terms.data()),
                                terms.size() * sizeof(double));
        const py::list found = call("combine", by_leaf, places, numbers, width);
        std::vector<double> totals;
        for (const py::handle total : found)
            totals.push_back(total.cast<double>());
        return totals;
    }

    // The largest of a number on all ranks.
    double largest(double value) const { return call("largest", value).cast<double>(); }

    // Non-contiguous parameters, copied in.
    void read_strided() const { call("read_strided"); }

    // What copies them out, and what puts rows that the reference implementation has moved in
    // copies back into their leaves: to be asked for before a step, after which nothing may fail.
    py::object writer(const char* name) const { return object.attr(name); }

  private:
    template <class... Arguments>
    py::object call(const char* name, const Arguments&... arguments) const {
        return call_python(object.attr(name), py::make_tuple(arguments...));
    }
};

} // namespace stepsize
