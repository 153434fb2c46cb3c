// One rule's update of arrays that the caller owns, state included.
#pragma once

#include <string>
#include <vector>

#include "bind/numpy.hpp"
#include "bind/overlap.hpp"

namespace stepsize {

// The hyperparameters of some updates; no number is kept from one call to the next.
class Update {
  public:
    // The numbers are the hyperparameters of the rule without the first one, the rate. Bounds are
    // none, or the lower and the upper one in single precision, and the same in double.
    Update(const std::string& kernel, const std::vector<double>& numbers, double coupled,
           double decoupled, double max_lr, double cautious, double limit, double sign, bool check,
           size_t scalar_count, const std::vector<double>& bounds, double l1);

    // None, or what is wrong: (kind, argument, leaf) and, for overlaps, those of the other array.
    // Arguments count params, grads, the state arrays and the scalars from 0.
    py::object apply(py::handle params, py::handle grads, const py::tuple& state, int64_t t,
                     double lr, double factor, py::handle scalars);

  private:
    int rule_;
    std::vector<double> numbers_;
    Prologue prologue_; // its shrink is the decay that the rate multiplies
    bool check_;
    size_t scalar_count_;
    bool bounded_;
    float single_[2] = {};
    double double_[2] = {};
    double l1_, max_lr_;
    std::vector<Access> known_; // arrays that were found not to overlap
};

} // namespace stepsize
