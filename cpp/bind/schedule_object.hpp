// A schedule tree that owns its nodes; the optimizer engine asks it for one value per step.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "core/schedule.hpp"

namespace stepsize {

// One node as Python describes it; children are indices of earlier nodes.
struct NodeDescription {
    std::string kind;
    std::vector<double> params;
    std::vector<int32_t> children;
    std::vector<double> data;
};

class ScheduleObject {
  public:
    // The functions are those of the nodes of kind "function", in order: from a step to a float.
    // Throws std::invalid_argument unless every kind, count and index is right: evaluation trusts
    // them.
    ScheduleObject(std::vector<NodeDescription> nodes, std::vector<pybind11::object> functions);
    ScheduleObject(const ScheduleObject&) = delete;
    ScheduleObject& operator=(const ScheduleObject&) = delete;

    // Throws std::invalid_argument for a step that is negative, NaN or above 2^53, and whatever a
    // Python function of the tree has raised. With functions the caller holds the GIL.
    double at(double step) const;
    void values(const double* steps, double* out, size_t n) const;
    // Values at the steps 0, 1, ... n - 1.
    void first(double* out, size_t n) const;

    // The Python functions among the leaves, for the garbage collector: they may hold the schedule.
    const std::vector<pybind11::object>& functions() const { return functions_; }
    void forget_functions();

  private:
    void check_size() const;
    void evaluate(const double* steps, double* out, size_t n, double* scratch) const;
    size_t scratch_size(size_t n) const;

    std::vector<NodeDescription> described_; // owns what the nodes point into
    std::vector<pybind11::object> functions_;
    std::vector<schedule::Node> nodes_;
    int depth_ = 0;
};

} // namespace stepsize
