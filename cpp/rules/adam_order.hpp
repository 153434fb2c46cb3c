// Variants of Adam that normalize the gradient first and average it afterwards.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// ADOPT. Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 2. In the first update the limit is 0,
// so neither the average nor the parameter moves.
template <class F> struct ADOPT {
    F lr, beta2, fresh1, fresh2, eps, limit, pull;
    ADOPT(const ADOPTNumbers& h, StepContext context)
        : lr(F(h.lr)), beta2(F(h.beta2)), fresh1(F(1 - h.beta1)),
          fresh2(context.t == 1 ? F(1) : F(1 - h.beta2)), eps(F(h.eps)),
          limit(h.use_clipping != 0 || context.t == 1 ? F(root(root(double(context.t - 1))))
                                                      : F(__builtin_inf())),
          pull(F(h.decouple != 0 && context.t > 1 ? h.lr * h.weight_decay : 0)) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, clamp(g / maximum(root(exp_avg_sq), eps), limit), fresh1);
        x = x - pull * x - lr * exp_avg;
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
    }
};

// LaProp. Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1.
template <class F> struct LaProp {
    F step, beta2, fresh1, fresh2, unbias, eps;
    LaProp(const LaPropNumbers& h, StepContext context)
        : step(F(h.lr / (1 - power(h.beta1, context.t)))), beta2(F(h.beta2)),
          fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        exp_avg = lerp(exp_avg, g / (root(exp_avg_sq) * unbias + eps), fresh1);
        x -= step * exp_avg;
    }
};

} // namespace
} // namespace stepsize
