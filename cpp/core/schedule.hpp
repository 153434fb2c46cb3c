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

enum class Kind : int32_t {
    constant, // value
    linear,   // from, to, steps
    power,    // from, to, steps, power
    cosine,   // from, to, steps, power
    rex,      // from, to, steps
    root,     // from, to, steps
    tanh,     // from, to, steps, lower, upper
    laps,     // from, to, steps, power: polynomial decay whose end moves on each time it is reached
    exponential,  // value, log2 rate (high, low), steps, staircase, floor, ceiling
    inverse_time, // value, rate, steps, staircase
    inverse_sqrt, // value, timescale
    levels,       // data: n boundaries, n + 1 values
    points,       // data: n steps, n values
    restarts, // from, to, period, log2 decay (high, low); data: cycle starts where lengths differ
    cyclic,   // low, high, up, down, log2 gamma (high, low), per step (1) or per cycle (0)
    scale,    // factor
    sum,
    product,
    clip,    // low, high
    join,    // data: the step at which each child starts
    shift,   // delay
    stretch, // old length, new length
    repeat,  // period
    pace,    // steps per unit, whole units only
};

struct Node {
    Kind kind;
    int32_t child_count;
    const int32_t* children;
    const double* data;
    size_t data_count;
    double p[max_params];
};

} // namespace schedule
} // namespace stepsize
