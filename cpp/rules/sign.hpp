// Sign-based rules, which use only the sign of a gradient or of an average.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// SignSGD. Bernstein et al. 2018, arXiv:1802.04434, Algorithm 1; with momentum Signum, Algorithm 2.
template <class F> struct SignSGD {
    F lr;
    SignSGD(const SignSGDNumbers& h, StepContext) : lr(F(h.lr)) {}

    void operator()(F& x, F g) const { x -= lr * sign(g); }
};

template <class F> struct SignSGDMomentum {
    F lr, fresh;
    SignSGDMomentum(const SignSGDMomentumNumbers& h, StepContext)
        : lr(F(h.lr)), fresh(F(1 - h.momentum)) {}

    void operator()(F& x, F g, F& buffer) const {
        buffer = lerp(buffer, g, fresh);
        x -= lr * sign(buffer);
    }
};

// Lion. Chen et al. 2023, arXiv:2302.06675, Algorithm 2.
template <class F> struct Lion {
    F lr, beta1, beta2;
    Lion(const LionNumbers& h, StepContext) : lr(F(h.lr)), beta1(F(h.beta1)), beta2(F(h.beta2)) {}

    void operator()(F& x, F g, F& m) const {
        x -= lr * sign(lerp(g, m, beta1));
        m = lerp(g, m, beta2);
    }
};

// Rprop. Riedmiller & Braun 1993, ICNN; the form without weight-backtracking, Igel & Huesken 2000,
// iRprop-.
template <class F> struct Rprop {
    F lr, shorter, longer, least, most, first;
    Rprop(const RpropNumbers& h, StepContext context)
        : lr(F(h.lr)), shorter(F(h.eta1)), longer(F(h.eta2)), least(F(h.step_size1)),
          most(F(h.step_size2)), first(F(context.t == 1)) {}

    void operator()(F& x, F g, F& prev, F& step_size) const {
        const F turn = sign(g) * sign(prev);
        const F factor = select(turn > 0, longer, select(turn < 0, shorter, F(1)));
        step_size = minimum(maximum(select(first > 0, lr, step_size) * factor, least), most);
        prev = select(turn < 0, F(0), g);
        x -= step_size * sign(prev);
    }
};

} // namespace
} // namespace stepsize
