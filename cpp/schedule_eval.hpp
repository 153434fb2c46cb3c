#pragma once
#include "schedule.hpp"
namespace stepsize {
namespace {
inline void evaluate_schedule(const schedule::Node*, size_t, const double*, double*, size_t) {}
} // namespace
} // namespace stepsize
