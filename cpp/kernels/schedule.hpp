// Values of a schedule tree. A block of steps passes through the tree at a time; every loop is
// plain arithmetic on one element, so one step alone and a million at once give the same bits.
#pragma once

#include "core/schedule.hpp"
#include "kernels/elementary.hpp"

namespace stepsize {
namespace {
namespace schedules {

using elementary::DoubleDouble;
using elementary::maximum;
using elementary::minimum;
using schedule::Kind;
using schedule::Node;

constexpr size_t block = 256;

void evaluate_node(const Node* nodes, size_t at, const double* s, double* out, size_t n);

template <class F> void each(const double* s, double* out, size_t n, F f) {
#pragma omp simd
    for (size_t i = 0; i < n; ++i)
        out[i] = f(s[i]);
}

// The weights of the two ends of a ramp. Both are computed without cancellation, so a ramp that
// ends at 0 keeps its relative precision all the way down.
struct Weights {
    double from, to;
};

STEPSIZE_INLINE double blend(double from, double to, Weights w) {
    const double low = minimum(from, to), high = maximum(from, to);
    return minimum(maximum(from * w.from + to * w.to, low), high);
}

struct Linear {
    double steps;
    Weights operator()(double s) const { return {(steps - s) / steps, s / steps}; }
};

struct Power {
    double steps, power;
    Weights operator()(double s) const {
        const double w = elementary::power((steps - s) / steps, power);
        return {w, 1.0 - w};
    }
};

struct Cosine {
    double steps;
    Weights operator()(double s) const {
        const double rest = steps - s;
        const double h = elementary::half_wave(minimum(s, rest) / steps);
        const double g = 1.0 - h;
        return {s < rest ? g : h, s < rest ? h : g};
    }
};

struct CosinePower {
    double steps, power;
    Weights operator()(double s) const {
        const double w = elementary::power(Cosine{steps}(s).from, power);
        return {w, 1.0 - w};
    }
};

// Chen, Wolfe and Kyrillidis 2021, arXiv:2107.04197: (1 - p) / (1 - p / 2).
struct Rex {
    double steps;
    Weights operator()(double s) const {
        const double p = s / steps, rest = (steps - s) / steps;
        const double whole = 1.0 + rest;
        return {2.0 * rest / whole, p / whole};
    }
};

struct Root {
    double steps;
    Weights operator()(double s) const {
        const double w = ::sqrt(s / steps);
        return {1.0 - w, w};
    }
};

struct Tanh {
    double steps, lower, upper;
    Weights operator()(double s) const {
        constexpr double two_over_ln2 = 2.8853900817779268;
        const double x = (lower * (steps - s) + upper * s) / steps * two_over_ln2;
        return {1.0 / (1.0 + elementary::exp2({x, 0.0})),
                1.0 / (1.0 + elementary::exp2({-x, 0.0}))};
    }
};

template <class Shape>
void ramp(const Node& node, Shape shape, const double* s, double* out, size_t n) {
    const double from = node.p[0], to = node.p[1], steps = node.p[2];
    each(s, out, n, [=](double x) { return blend(from, to, shape(minimum(x, steps))); });
}

// Polynomial decay towards an end that moves a length away each time it is reached.
void laps(const Node& node, const double* s, double* out, size_t n) {
    const double from = node.p[0], to = node.p[1], steps = node.p[2], power = node.p[3];
    each(s, out, n, [=](double x) {
        const double whole = elementary::round_down(x / steps);
        const double end = steps * maximum(whole * steps < x ? whole + 1.0 : whole, 1.0);
        const double w = elementary::power((end - minimum(x, end)) / end, power);
        return blend(from, to, {w, 1.0 - w});
    });
}

void exponential(const Node& node, const double* s, double* out, size_t n) {
    const double value = node.p[0], steps = node.p[3], low = node.p[5], high = node.p[6];
    const DoubleDouble rate = {node.p[1], node.p[2]};
    const bool staircase = node.p[4] != 0.0;
    each(s, out, n, [=](double x) {
        double e =
            minimum(x / steps, 1e18); // beyond it every rate but 1 has long reached its limit
        e = staircase ? elementary::round_down(e) : e;
        return minimum(maximum(value * elementary::exp2(elementary::times(rate, e)), low), high);
    });
}

void inverse_time(const Node& node, const double* s, double* out, size_t n) {
    const double value = node.p[0], rate = node.p[1], steps = node.p[2];
    const bool staircase = node.p[3] != 0.0;
    each(s, out, n, [=](double x) {
        double e =
            minimum(x / steps, elementary::largest_number); // a rate of 0 makes infinity no number
        e = staircase ? elementary::round_down(e) : e;
        return value / (1.0 + rate * e);
    });
}

void inverse_sqrt(const Node& node, const double* s, double* out, size_t n) {
    const double value = node.p[0], scale = node.p[1];
    each(s, out, n, [=](double x) { return value * ::sqrt(scale / (x + scale)); });
}

// Triangles with a step up and a step down of their own, shrinking per cycle or per step.
void cyclic(const Node& node, const double* s, double* out, size_t n) {
    const double low = node.p[0], high = node.p[1], up = node.p[2], down = node.p[3];
    const double period = up + down;
    const DoubleDouble gamma = {node.p[4], node.p[5]};
    const bool per_step = node.p[6] != 0.0;
    each(s, out, n, [=](double x) {
        const double cycle = elementary::round_down(x / period);
        const double at = maximum(x - cycle * period, 0.0);
        const double height = at < up ? at / up : maximum(period - at, 0.0) / down;
        const double w = height * elementary::exp2(elementary::times(gamma, per_step ? x : cycle));
        return blend(low, high, {1.0 - w, w});
    });
}

// How many of the ascending starts are <= s.
inline size_t count_reached(const double* starts, size_t count, double s) {
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (starts[middle] <= s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Whether all steps lie in [low, high).
inline bool all_within(const double* s, size_t n, double low, double high) {
    double least = s[0], most = s[0];
#pragma omp simd reduction(min : least) reduction(max : most)
    for (size_t i = 0; i < n; ++i) {
        least = s[i] < least ? s[i] : least;
        most = s[i] > most ? s[i] : most;
    }
    return least >= low && most < high;
}

// Calls f(piece, first, last) for each run of neighbouring steps that lie in the same piece; pieces
// are separated by ascending starts, and piece k holds at starts[k - 1].
template <class F> void runs(const double* starts, size_t count, const double* s, size_t n, F f) {
    for (size_t i = 0; i < n;) {
        const size_t piece = count_reached(starts, count, s[i]);
        const double low = piece > 0 ? starts[piece - 1] : -1.0;
        const double high = piece < count ? starts[piece] : elementary::largest_number;
        // Almost every block of steps in order is one run.
        size_t j = i == 0 && all_within(s, n, low, high) ? n : i + 1;
        while (j < n && s[j] >= low && s[j] < high)
            ++j;
        f(piece, i, j);
        i = j;
    }
}

void levels(const Node& node, const double* s, double* out, size_t n) {
    const size_t count = node.data_count / 2;
    const double* values = node.data + count;
    runs(node.data, count, s, n, [=](size_t piece, size_t i, size_t j) {
        for (; i < j; ++i)
            out[i] = values[piece];
    });
}

void points(const Node& node, const double* s, double* out, size_t n) {
    const size_t count = node.data_count / 2;
    const double *at = node.data, *values = node.data + count;
    runs(at, count, s, n, [=](size_t piece, size_t i, size_t j) {
        const size_t left = piece > 0 ? piece - 1 : 0, right = piece < count ? piece : count - 1;
        const double x0 = at[left], length = at[right] - x0, from = values[left],
                     to = values[right];
        if (length > 0.0)
            each(s + i, out + i, j - i,
                 [=](double x) { return blend(from, to, Linear{length}(x - x0)); });
        else
            for (; i < j; ++i)
                out[i] = to;
    });
}

// Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, with the peak's height above the end
// decayed.
void restarts(const Node& node, const double* s, double* out, size_t n) {
    const double from = node.p[0], to = node.p[1], period = node.p[2];
    const DoubleDouble decay = {node.p[3], node.p[4]};
    double since[block], length[block], cycle[block];
    if (node.data_count == 0) {
#pragma omp simd
        for (size_t i = 0; i < n; ++i) {
            cycle[i] = elementary::round_down(s[i] / period);
            since[i] = s[i] - cycle[i] * period;
            length[i] = period;
        }
    } else {
        const double* starts = node.data;
        runs(starts + 1, node.data_count - 2, s, n, [&](size_t piece, size_t i, size_t j) {
            for (; i < j; ++i) {
                cycle[i] = static_cast<double>(piece);
                since[i] = s[i] - starts[piece];
                length[i] = starts[piece + 1] - starts[piece];
            }
        });
    }
#pragma omp simd
    for (size_t i = 0; i < n; ++i) {
        const double top = to + (from - to) * elementary::exp2(elementary::times(decay, cycle[i]));
        const double at = minimum(maximum(since[i], 0.0), length[i]);
        out[i] = blend(top, to, Cosine{length[i]}(at));
    }
}

void join(const Node* nodes, const Node& node, const double* s, double* out, size_t n) {
    const double* starts = node.data;
    runs(starts + 1, node.data_count - 1, s, n, [=](size_t piece, size_t i, size_t j) {
        const double start = starts[piece];
        double local[block];
        each(s + i, local, j - i, [=](double x) { return x - start; });
        evaluate_node(nodes, static_cast<size_t>(node.children[piece]), local, out + i, j - i);
    });
}

// One child that sees other steps.
template <class F>
void moved(const Node* nodes, const Node& node, const double* s, double* out, size_t n, F f) {
    double local[block];
    each(s, local, n, f);
    evaluate_node(nodes, static_cast<size_t>(node.children[0]), local, out, n);
}

// One child whose values change.
template <class F>
void mapped(const Node* nodes, const Node& node, const double* s, double* out, size_t n, F f) {
    evaluate_node(nodes, static_cast<size_t>(node.children[0]), s, out, n);
    each(out, out, n, f);
}

template <class F>
void combined(const Node* nodes, const Node& node, const double* s, double* out, size_t n, F f) {
    double other[block];
    evaluate_node(nodes, static_cast<size_t>(node.children[0]), s, out, n);
    evaluate_node(nodes, static_cast<size_t>(node.children[1]), s, other, n);
#pragma omp simd
    for (size_t i = 0; i < n; ++i)
        out[i] = minimum(f(out[i], other[i]), elementary::largest_number);
}

void evaluate_algebra(const Node* nodes, const Node& node, const double* s, double* out, size_t n) {
    const double p = node.p[0], q = node.p[1];
    switch (node.kind) {
    case Kind::scale:
        return mapped(nodes, node, s, out, n,
                      [=](double y) { return minimum(y * p, elementary::largest_number); });
    case Kind::clip:
        return mapped(nodes, node, s, out, n, [=](double y) { return minimum(maximum(y, p), q); });
    case Kind::sum:
        return combined(nodes, node, s, out, n, [](double a, double b) { return a + b; });
    case Kind::product:
        return combined(nodes, node, s, out, n, [](double a, double b) { return a * b; });
    case Kind::join:
        return join(nodes, node, s, out, n);
    case Kind::shift:
        return moved(nodes, node, s, out, n, [=](double x) { return maximum(x - p, 0.0); });
    case Kind::stretch:
        // Past its new end the child is past its own, wherever rounding has put that.
        return moved(nodes, node, s, out, n,
                     [=](double x) { return x < q ? x * p / q : schedule::last_step; });
    case Kind::pace:
        return moved(nodes, node, s, out, n, [=](double x) {
            const double units = minimum(x / p, schedule::last_step);
            return q != 0.0 ? elementary::round_down(units) : units;
        });
    default: // repeat
        return moved(nodes, node, s, out, n, [=](double x) {
            return minimum(maximum(x - elementary::round_down(x / p) * p, 0.0), p);
        });
    }
}

void evaluate_node(const Node* nodes, size_t at, const double* s, double* out, size_t n) {
    const Node& node = nodes[at];
    const double value = node.p[0], steps = node.p[2];
    switch (node.kind) {
    case Kind::constant:
        return each(s, out, n, [=](double) { return value; });
    case Kind::linear:
        return ramp(node, Linear{steps}, s, out, n);
    case Kind::power:
        return ramp(node, Power{steps, node.p[3]}, s, out, n);
    case Kind::cosine:
        if (node.p[3] == 1.0)
            return ramp(node, Cosine{steps}, s, out, n);
        return ramp(node, CosinePower{steps, node.p[3]}, s, out, n);
    case Kind::rex:
        return ramp(node, Rex{steps}, s, out, n);
    case Kind::root:
        return ramp(node, Root{steps}, s, out, n);
    case Kind::tanh:
        return ramp(node, Tanh{steps, node.p[3], node.p[4]}, s, out, n);
    case Kind::laps:
        return laps(node, s, out, n);
    case Kind::exponential:
        return exponential(node, s, out, n);
    case Kind::inverse_time:
        return inverse_time(node, s, out, n);
    case Kind::inverse_sqrt:
        return inverse_sqrt(node, s, out, n);
    case Kind::levels:
        return levels(node, s, out, n);
    case Kind::points:
        return points(node, s, out, n);
    case Kind::restarts:
        return restarts(node, s, out, n);
    case Kind::cyclic:
        return cyclic(node, s, out, n);
    default:
        return evaluate_algebra(nodes, node, s, out, n);
    }
}

} // namespace schedules

void evaluate_schedule(const schedule::Node* nodes, size_t root, const double* steps, double* out,
                       size_t n) {
    constexpr size_t block = schedules::block;
    for (size_t i = 0; i < n; i += block)
        schedules::evaluate_node(nodes, root, steps + i, out + i, n - i < block ? n - i : block);
}

} // namespace
} // namespace stepsize
