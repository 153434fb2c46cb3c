// Stochastic gradient descent with and without momentum.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// Stochastic gradient descent. Robbins & Monro 1951.
template <class F> struct SGD {
    F lr;
    SGD(const SGDNumbers& h, StepContext) : lr(F(h.lr)) {}

    void operator()(F& x, F g) const { x -= lr * g; }
};

// Momentum, Polyak 1964; Nesterov's form, Sutskever et al. 2013. The buffer starts as the first
// gradient, which dampening does not touch, nor where momentum is 0.
template <class F> struct SGDMomentum {
    F lr, momentum, fresh, nesterov;
    SGDMomentum(const SGDMomentumNumbers& h, StepContext context)
        : lr(F(h.lr)), momentum(F(h.momentum)),
          fresh(context.t == 1 || h.momentum == 0 ? F(1) : F(1 - h.dampening)),
          nesterov(F(h.nesterov)) {}

    void operator()(F& x, F g, F& buffer) const {
        buffer = momentum * buffer + fresh * g;
        x -= lr * select(nesterov > 0, g + momentum * buffer, buffer);
    }
};

} // namespace
} // namespace stepsize
