// A schedule is data: a flat array of nodes, children before parents, that one function evaluates.
// Structs only. kernels/schedule.hpp evaluates them, compiled per instruction set, and bind/ builds
// them; a function body here could be the copy compiled for a newer processor.
#pragma once

#include "core/types.hpp"

namespace stepsize {
namespace schedule {

constexpr int max_params = 7;
constexpr int max_depth = 100;
constexpr double last_step =
    9007199254740992.0; // 2^53: above it steps are no longer counted exactly

// Steps that pass through the tree at a time, and what an evaluation needs as scratch: for each of
// these steps, one number per level of the tree and two more.
constexpr size_t block = 256;
constexpr int more_scratch = 2;

enum class Kind : int32_t {
#define NODE(name, ...) name,
#include "core/nodes.def"
#undef NODE
};

// A leaf that is called: writes its values at n steps. It may not throw.
using Function = void (*)(void* context, const double* steps, double* out, size_t n);

struct Node {
    Kind kind;
    int32_t child_count;
    const int32_t* children;
    const double* data;
    size_t data_count;
    double p[max_params];
    Function call;
    void* context;
};

} // namespace schedule
} // namespace stepsize
