// Variants of Adam with another form of momentum.
#pragma once

#include "rules/adam.hpp"

namespace stepsize {
namespace {

// NAdam. Dozat 2016, "Incorporating Nesterov Momentum into Adam", Algorithm 2.
template <class F> struct NAdam {
    F step_grad, step_avg, beta2, fresh1, fresh2, unbias, eps;
    NAdam(const NAdamNumbers& h, StepContext context)
        : beta2(F(h.beta2)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)) {
        const double t = double(context.t);
        const double mu = h.beta1 * (1 - 0.5 * real_power(0.96, t * h.momentum_decay));
        const double next = h.beta1 * (1 - 0.5 * real_power(0.96, (t + 1) * h.momentum_decay));
        double& product = context.scalars[0];
        product *= mu;
        step_grad = F(h.lr * (1 - mu) / (1 - product));
        step_avg = F(h.lr * next / (1 - product * next));
    }

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        x -= (step_grad * g + step_avg * exp_avg) / (root(exp_avg_sq) * unbias + eps);
    }
};

// Adan. Xie et al. 2022, arXiv:2208.06677, Algorithm 1.
template <class F> struct Adan {
    F step, step_diff, beta1, beta2, beta3, fresh1, fresh2, fresh3, unbias, eps, grow, first;
    Adan(const AdanNumbers& h, StepContext context)
        : step(F(h.lr / (1 - power(h.beta1, context.t)))),
          step_diff(F(h.lr * h.beta2 / (1 - power(h.beta2, context.t)))), beta1(F(h.beta1)),
          beta2(F(h.beta2)), beta3(F(h.beta3)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          fresh3(F(1 - h.beta3)), unbias(F(1 / root(1 - power(h.beta3, context.t)))), eps(F(h.eps)),
          grow(F(h.no_prox != 0 ? 1 : 1 + h.lr * h.weight_decay)), first(F(context.t == 1)) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_diff, F& exp_avg_sq, F& last) const {
        const F diff = select(first > 0, F(0), g - last);
        const F ahead = g + beta2 * diff;
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_diff = lerp(exp_avg_diff, diff, fresh2);
        exp_avg_sq = beta3 * exp_avg_sq + fresh3 * ahead * ahead;
        const F move = step * exp_avg + step_diff * exp_avg_diff;
        x = (x - move / (root(exp_avg_sq) * unbias + eps)) / grow;
        last = g;
    }
};

// AdEMAMix. Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1.
template <class F> struct AdEMAMix {
    F step, step_slow, beta2, fresh1, fresh2, fresh3, unbias, eps;
    AdEMAMix(const AdEMAMixNumbers& h, StepContext context)
        : step(F(h.lr / (1 - power(h.beta1, context.t)))), beta2(F(h.beta2)),
          fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)) {
        const double t = double(context.t);
        double alpha = h.alpha, beta3 = h.beta3;
        if (t < h.alpha_warmup)
            alpha = t * h.alpha / h.alpha_warmup;
        // The half-life of the slow average grows linearly.
        if (t < h.beta3_warmup) {
            const double share = t / h.beta3_warmup;
            const double from = logarithm2(h.beta1), to = logarithm2(h.beta3);
            const double inverse = (1 - share) / from + share / to;
            beta3 = minimum(elementary::exp2({1 / inverse, 0}), h.beta3);
        }
        step_slow = F(h.lr * alpha);
        fresh3 = F(1 - beta3);
    }

    static double logarithm2(double beta) {
        const elementary::DoubleDouble l = elementary::log2(maximum(beta, 1e-300));
        return l.high + l.low;
    }

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_slow, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_slow = lerp(exp_avg_slow, g, fresh3);
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        x -= (step * exp_avg + step_slow * exp_avg_slow) / (root(exp_avg_sq) * unbias + eps);
    }
};

} // namespace
} // namespace stepsize
