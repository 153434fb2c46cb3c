// A schedule is data: a flat array of nodes, children before parents, that one function evaluates.
// Included by kernels.cpp (evaluation, compiled per instruction set) and by bind/ (building trees).
#pragma once

#include "core/types.hpp"

namespace stepsize {
namespace schedule {

struct Node {
    int32_t kind;
};

} // namespace schedule
} // namespace stepsize
