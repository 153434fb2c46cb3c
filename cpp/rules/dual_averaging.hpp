// Dual averaging: rules that recompute the parameters from a sum of all gradients.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// FTRL-Proximal. McMahan et al. 2013, KDD, Algorithm 1.
template <class F> struct FTRL {
    static constexpr bool limited = true;
    F inverse, l1, ridge, shrinkage;
    FTRL(const FTRLNumbers& h, StepContext)
        : inverse(F(1 / h.lr)), l1(F(h.l1)), ridge(F(2 * h.l2 + h.beta / h.lr)),
          shrinkage(F(2 * h.l2_shrinkage)) {}

    void operator()(F& x, F g, F& accumulator, F& linear) const {
        const bool moves = inverse < F(__builtin_inf()); // at a rate of 0 nothing does
        const F total = clamp(accumulator + g * g, Bits<F>::largest);
        const F before = root(accumulator), after = root(total);
        const F sum = linear + ((g + shrinkage * x) - (after - before) * inverse * x);
        const F curvature = after * inverse + ridge;
        const F minimum = (clamp(sum, l1) - sum) / curvature;
        x = select(moves && curvature > 0, minimum, x);
        accumulator = select(moves, total, accumulator);
        linear = select(moves, sum, linear);
    }
};

// MADGRAD. Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1.
template <class F> struct MADGRAD {
    static constexpr int start = 2;
    F weight, fresh, pull, eps;
    MADGRAD(const MADGRADNumbers& h, StepContext context)
        : fresh(F(1 - h.momentum)), eps(F(h.eps)) {
        const double lr = h.lr > 0 ? h.lr + h.eps : 0;
        weight = F(lr * root(double(context.t)));
        pull = F(h.decouple_decay != 0 ? lr * h.weight_decay : 0);
    }

    void operator()(F& x, F g, F& grad_sum_sq, F& grad_sum, F& x0) const {
        // Not reloaded from the state, which would wait for the stores.
        const F pulled = weight * g, squares = grad_sum_sq + pulled * g, sum = grad_sum + pulled;
        grad_sum_sq = squares;
        grad_sum = sum;
        const F z = x0 - sum / (cube_root(squares) + eps);
        x = lerp(x, z, fresh) - pull * x;
    }
};

} // namespace
} // namespace stepsize
