// A schedule tree that owns its nodes; the optimizer engine asks it for one value per step.
#pragma once

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
    // Throws std::invalid_argument unless every kind, count and index is right: evaluation trusts
    // them.
    explicit ScheduleObject(std::vector<NodeDescription> nodes);
    ScheduleObject(const ScheduleObject&) = delete;
    ScheduleObject& operator=(const ScheduleObject&) = delete;

    // Throws std::invalid_argument for a step that is negative, NaN or above 2^53.
    double at(double step) const;
    void values(const double* steps, double* out, size_t n) const;
    // Values at the steps 0, 1, ... n - 1.
    void first(double* out, size_t n) const;

  private:
    std::vector<NodeDescription> described_; // owns what the nodes point into
    std::vector<schedule::Node> nodes_;
};

} // namespace stepsize
