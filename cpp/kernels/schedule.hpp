// Evaluates a schedule tree for one block of steps at a time. Nodes take temporary memory from a
// scratch buffer, since a deep tree would overflow the small stack of a thread.
#pragma once

#include "kernels/curves.hpp"

namespace stepsize {
namespace {
namespace schedules {

void evaluate(const Call& c) {
    switch (c.node.kind) {
#define NODE(name, ...)                                                                            \
    case Kind::name:                                                                               \
        return name(c);
#include "core/nodes.def"
#undef NODE
    }
}

// The values of a child at n steps of its own.
void evaluate_child(const Call& c, size_t k, const double* s, double* out, size_t n,
                    double* scratch) {
    evaluate({c.nodes, c.nodes[size_t(c.node.children[k])], s, out, n, scratch});
}

// One child whose values change.
template <class F> STEPSIZE_INLINE void mapped(const Call& c, F f) {
    evaluate_child(c, 0, c.s, c.out, c.n, c.scratch);
    each(c.out, c.out, c.n, f);
}

void scale(const Call& c) {
    const double factor = c.node.p[0];
    mapped(c, [=](double y) { return minimum(y * factor, elementary::largest_number); });
}

void clip(const Call& c) {
    const double low = c.node.p[0], high = c.node.p[1];
    mapped(c, [=](double y) { return minimum(maximum(y, low), high); });
}

// Two children, or one twice, which is then evaluated once: otherwise each level of nested sums
// would double the work.
template <class F> STEPSIZE_INLINE void combined(const Call& c, F f) {
    const size_t n = c.n;
    double *out = c.out, *other = c.scratch;
    evaluate_child(c, 0, c.s, out, n, c.scratch);
    if (c.node.children[0] == c.node.children[1])
        other = out;
    else
        evaluate_child(c, 1, c.s, other, n, c.scratch + n);
#pragma omp simd
    for (size_t i = 0; i < n; ++i)
        out[i] = minimum(f(out[i], other[i]), elementary::largest_number);
}

void sum(const Call& c) {
    combined(c, [](double a, double b) { return a + b; });
}

void product(const Call& c) {
    combined(c, [](double a, double b) { return a * b; });
}

void join(const Call& c) {
    const double* starts = c.node.data;
    runs(starts + 1, c.node.data_count - 1, c.s, c.n,
         [&c, starts](size_t piece, size_t i, size_t j) {
             const double start = starts[piece];
             const size_t n = j - i;
             each(c.s + i, c.scratch, n, [=](double x) { return x - start; });
             evaluate_child(c, piece, c.scratch, c.out + i, n, c.scratch + n);
         });
}

// One child, evaluated at other steps.
template <class F> STEPSIZE_INLINE void moved(const Call& c, F f) {
    each(c.s, c.scratch, c.n, f);
    evaluate_child(c, 0, c.scratch, c.out, c.n, c.scratch + c.n);
}

void shift(const Call& c) {
    const double delay = c.node.p[0];
    moved(c, [=](double x) { return maximum(x - delay, 0.0); });
}

void stretch(const Call& c) {
    const double from = c.node.p[0], to = c.node.p[1];
    // Past the new end the child is evaluated past its own end, whatever the rounding.
    moved(c, [=](double x) { return x < to ? x * from / to : schedule::last_step; });
}

void repeat(const Call& c) {
    const double period = c.node.p[0];
    moved(c, [=](double x) {
        return minimum(maximum(x - elementary::round_down(x / period) * period, 0.0), period);
    });
}

void pace(const Call& c) {
    const double length = c.node.p[0];
    const bool whole = c.node.p[1] != 0.0;
    moved(c, [=](double x) {
        const double units = minimum(x / length, schedule::last_step);
        return whole ? elementary::round_down(units) : units;
    });
}

} // namespace schedules

void evaluate_schedule(const schedule::Node* nodes, size_t root, const double* steps, double* out,
                       size_t n, double* scratch) {
    using schedule::block;
    for (size_t i = 0; i < n; i += block)
        schedules::evaluate(
            {nodes, nodes[root], steps + i, out + i, n - i < block ? n - i : block, scratch});
}

} // namespace
} // namespace stepsize
