// The leaves of a schedule tree, each a function named like its kind. Every loop is plain
// arithmetic on one element, so one step alone and a million at once give the same bits.
#pragma once

#include "core/schedule.hpp"
#include "kernels/elementary.hpp"

namespace stepsize {
namespace {
namespace schedules {

using elementary::DoubleDouble;
using elementary::maximum;
using elementary::minimum;
using schedule::block;
using schedule::Kind;
using schedule::Node;

// One node to be evaluated: n steps in, n values out, and room for the numbers in between.
struct Call {
    const Node* nodes;
    const Node& node;
    const double* s;
    double* out;
    size_t n;
    double* scratch;
};

#define NODE(name, ...) __attribute__((noinline)) void name(const Call& c);
#include "core/nodes.def"
#undef NODE

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

template <class Shape> STEPSIZE_INLINE void ramp(const Call& c, Shape shape) {
    const double from = c.node.p[0], to = c.node.p[1], steps = c.node.p[2];
    each(c.s, c.out, c.n, [=](double x) { return blend(from, to, shape(minimum(x, steps))); });
}

void constant(const Call& c) {
    const double value = c.node.p[0];
    each(c.s, c.out, c.n, [=](double) { return value; });
}

void linear(const Call& c) { ramp(c, Linear{c.node.p[2]}); }

void power(const Call& c) { ramp(c, Power{c.node.p[2], c.node.p[3]}); }

void cosine(const Call& c) {
    if (c.node.p[3] == 1.0)
        return ramp(c, Cosine{c.node.p[2]});
    ramp(c, CosinePower{c.node.p[2], c.node.p[3]});
}

void rex(const Call& c) { ramp(c, Rex{c.node.p[2]}); }

void root(const Call& c) { ramp(c, Root{c.node.p[2]}); }

void tanh(const Call& c) { ramp(c, Tanh{c.node.p[2], c.node.p[3], c.node.p[4]}); }

// Polynomial decay towards an end that moves one length further each time it is reached.
void laps(const Call& c) {
    const Node& node = c.node;
    const double from = node.p[0], to = node.p[1], steps = node.p[2], power = node.p[3];
    each(c.s, c.out, c.n, [=](double x) {
        const double whole = elementary::round_down(x / steps);
        const double end = steps * maximum(whole * steps < x ? whole + 1.0 : whole, 1.0);
        const double w = elementary::power((end - minimum(x, end)) / end, power);
        return blend(from, to, {w, 1.0 - w});
    });
}

void exponential(const Call& c) {
    const Node& node = c.node;
    const double value = node.p[0], steps = node.p[3], low = node.p[5], high = node.p[6];
    const DoubleDouble rate = {node.p[1], node.p[2]};
    const bool staircase = node.p[4] != 0.0;
    each(c.s, c.out, c.n, [=](double x) {
        double e =
            minimum(x / steps, 1e18); // beyond it every rate but 1 has long reached its limit
        e = staircase ? elementary::round_down(e) : e;
        return minimum(maximum(value * elementary::exp2(elementary::times(rate, e)), low), high);
    });
}

void inverse_time(const Call& c) {
    const Node& node = c.node;
    const double value = node.p[0], rate = node.p[1], steps = node.p[2];
    const bool staircase = node.p[3] != 0.0;
    each(c.s, c.out, c.n, [=](double x) {
        double e =
            minimum(x / steps, elementary::largest_number); // a rate of 0 times infinity is NaN
        e = staircase ? elementary::round_down(e) : e;
        return value / (1.0 + rate * e);
    });
}

void inverse_sqrt(const Call& c) {
    const Node& node = c.node;
    const double value = node.p[0], scale = node.p[1];
    each(c.s, c.out, c.n, [=](double x) { return value * ::sqrt(scale / (x + scale)); });
}

// Triangles with separate lengths up and down, whose height shrinks per cycle or per step.
void cyclic(const Call& c) {
    const Node& node = c.node;
    const double low = node.p[0], high = node.p[1], up = node.p[2], down = node.p[3];
    const double period = up + down;
    const DoubleDouble gamma = {node.p[4], node.p[5]};
    const bool per_step = node.p[6] != 0.0;
    each(c.s, c.out, c.n, [=](double x) {
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

void levels(const Call& c) {
    const size_t count = c.node.data_count / 2;
    const double* values = c.node.data + count;
    double* out = c.out;
    runs(c.node.data, count, c.s, c.n, [=](size_t piece, size_t i, size_t j) {
        for (; i < j; ++i)
            out[i] = values[piece];
    });
}

void points(const Call& c) {
    const size_t count = c.node.data_count / 2;
    const double *at = c.node.data, *values = c.node.data + count, *s = c.s;
    double* out = c.out;
    runs(at, count, s, c.n, [=](size_t piece, size_t i, size_t j) {
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
void restarts(const Call& c) {
    const Node& node = c.node;
    const double from = node.p[0], to = node.p[1], period = node.p[2];
    const DoubleDouble decay = {node.p[3], node.p[4]};
    const size_t n = c.n;
    const double* s = c.s;
    double *since = c.scratch, *length = since + n, *cycle = length + n, *out = c.out;
    if (node.data_count == 0) {
#pragma omp simd
        for (size_t i = 0; i < n; ++i) {
            cycle[i] = elementary::round_down(s[i] / period);
            since[i] = s[i] - cycle[i] * period;
            length[i] = period;
        }
    } else {
        const double* starts = node.data;
        runs(starts + 1, node.data_count - 2, s, n, [=](size_t piece, size_t i, size_t j) {
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

void function(const Call& c) { c.node.call(c.node.context, c.s, c.out, c.n); }

} // namespace schedules
} // namespace
} // namespace stepsize
