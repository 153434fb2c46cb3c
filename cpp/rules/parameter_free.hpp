// Learning-rate-free rules, which find their rate from distances and gradients.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// DoG. Ivgi, Hinder & Carmon 2023, arXiv:2302.12022, section 3. Numbers are the hyperparameters of
// DoG or of LDoG, whose sums are taken leaf by leaf.
template <class F, class Numbers> struct DistanceOverGradients {
    static constexpr int sums = 3, start = 0, late = 0;
    enum { distance, squares };
    F step;
    DistanceOverGradients(const Numbers& h, StepContext context)
        : step(F(h.lr * context.scalars[distance] / root(context.scalars[squares]))) {}

    Terms measure(F x, F g, F& x0) const {
        const double apart = double(x) - double(x0);
        return {square(apart), square(double(g)), square(double(x))};
    }
    static void settle(const Numbers& h, StepContext context, const double* sums) {
        const bool fresh = context.scalars[distance] == 0;
        context.scalars[squares] = (fresh ? h.eps : context.scalars[squares]) + sums[1];
        context.scalars[distance] = fresh ? h.reps_rel * (1 + root(sums[2]))
                                          : maximum(context.scalars[distance], root(sums[0]));
    }
    void operator()(F& x, F g, F&) const { x -= step * g; }
};

template <class F> struct DoG : DistanceOverGradients<F, DoGNumbers> {
    using DistanceOverGradients<F, DoGNumbers>::DistanceOverGradients;
};

template <class F> struct LDoG : DistanceOverGradients<F, LDoGNumbers> {
    using DistanceOverGradients<F, LDoGNumbers>::DistanceOverGradients;
};

// DoWG. Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1.
template <class F> struct DoWG {
    static constexpr int sums = 2, start = 0, late = 0;
    enum { distance, weighted };
    F step;
    DoWG(const DoWGNumbers& h, StepContext context)
        : step(F(h.lr * (context.scalars[distance] / (root(context.scalars[weighted]) + h.eps)))) {}

    Terms measure(F x, F g, F& x0) const {
        const double apart = double(x) - double(x0);
        return {square(apart), square(double(g))};
    }
    static void settle(const DoWGNumbers& h, StepContext context, const double* sums) {
        context.scalars[distance] = maximum(maximum(context.scalars[distance], h.eps), sums[0]);
        context.scalars[weighted] += context.scalars[distance] * sums[1];
    }
    void operator()(F& x, F g, F&) const { x -= step * g; }
};

// COCOB-Backprop. Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2.
template <class F> struct COCOB {
    static constexpr int start = 0;
    F lr, alpha, eps;
    COCOB(const COCOBNumbers& h, StepContext) : lr(F(h.lr)), alpha(F(h.alpha)), eps(F(h.eps)) {}

    void operator()(F& x, F g, F& x0, F& theta, F& scale, F& total, F& reward) const {
        scale = maximum(maximum(scale, eps), abs_(g));
        total += abs_(g);
        reward = maximum(reward - g * (x - x0), F(0));
        theta -= g;
        const F bet = theta / (scale * maximum(total + scale, alpha * scale));
        x = lerp(x, x0 + bet * (scale + reward), lr);
    }
};

} // namespace
} // namespace stepsize
