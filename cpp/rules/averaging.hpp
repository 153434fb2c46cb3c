// Rules whose result is an average of their iterates.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// ASGD. Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); rates of Bottou 2012, "Stochastic
// Gradient Descent Tricks", section 5.
template <class F> struct ASGD {
    F eta, shrink, share;
    ASGD(const ASGDNumbers& h, StepContext context) {
        const double before = double(context.t - 1);
        const double rate = h.lr / real_power(1 + h.lambd * h.lr * before, h.alpha);
        eta = F(rate);
        shrink = F(1 - h.lambd * rate);
        share = F(1 / maximum(before - h.t0, 1.0));
    }

    void operator()(F& x, F g, F& ax) const {
        x = x * shrink - eta * g;
        ax = lerp(ax, x, share);
    }
};

} // namespace
} // namespace stepsize
