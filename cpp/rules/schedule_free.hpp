// Schedule-free rules: an average of the iterates in place of a learning-rate decay.
#pragma once

#include "rules/adam.hpp"

namespace stepsize {
namespace {

// Schedule-free learning. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1; x holds the point y
// at which gradients are taken.
template <class F> struct ScheduleFreeCore {
    F lr, share, step, first;
    ScheduleFreeCore(double rate, double beta, double r, double exponent, StepContext context)
        : lr(F(rate)), first(F(context.t == 1)) {
        double &top = context.scalars[0], &sum = context.scalars[1];
        top = maximum(top, rate);
        const double weight = real_power(double(context.t), r) * real_power(top, exponent);
        sum += weight;
        const double c = sum > 0 ? weight / sum : 0;
        share = F(c);
        step = F(rate * (1 - beta * (1 - c)));
    }

    void move(F& y, F d, F& z) const {
        z = select(first > 0, y, z);
        y = lerp(y, z, share) - step * d;
        z -= lr * d;
    }

    static double warm(double lr, double warmup_steps, int64_t t) {
        return lr * minimum(double(t) / maximum(warmup_steps, 1.0), 1.0);
    }
};

template <class F> struct ScheduleFreeSGD : ScheduleFreeCore<F> {
    ScheduleFreeSGD(const ScheduleFreeSGDNumbers& h, StepContext context)
        : ScheduleFreeCore<F>(ScheduleFreeCore<F>::warm(h.lr, h.warmup_steps, context.t),
                              h.momentum, h.r, h.weight_lr_power, context) {}

    void operator()(F& y, F g, F& z) const { this->move(y, g, z); }
};

template <class F> struct ScheduleFreeAdamW : ScheduleFreeCore<F> {
    F beta2, fresh2, unbias, eps, decay;
    ScheduleFreeAdamW(const ScheduleFreeAdamWNumbers& h, StepContext context)
        : ScheduleFreeCore<F>(ScheduleFreeCore<F>::warm(h.lr, h.warmup_steps, context.t), h.beta1,
                              h.r, h.weight_lr_power, context),
          beta2(F(h.beta2)), fresh2(F(1 - h.beta2)),
          unbias(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)),
          decay(F(h.weight_decay)) {}

    void operator()(F& y, F g, F& z, F& exp_avg_sq) const {
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        this->move(y, g / (root(exp_avg_sq) * unbias + eps) + decay * y, z);
    }
};

template <class F> struct ScheduleFreeRAdam : ScheduleFreeCore<F> {
    F beta2, fresh2, unbias, eps, decay, rectified;
    ScheduleFreeRAdam(const ScheduleFreeRAdamNumbers& h, StepContext context)
        : ScheduleFreeCore<F>(h.lr * scale(h, context.t), h.beta1, h.r, h.weight_lr_power, context),
          beta2(F(h.beta2)), fresh2(F(1 - h.beta2)),
          unbias(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)),
          decay(F(h.weight_decay)), rectified(F(Rectifier(h.beta2, context.t).length > 4)) {}

    static double scale(const ScheduleFreeRAdamNumbers& h, int64_t t) {
        const Rectifier r(h.beta2, t);
        return r.length > 4 ? r.factor() : h.silent_sgd_phase != 0 ? 0 : 1;
    }

    void operator()(F& y, F g, F& z, F& exp_avg_sq) const {
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        const F size = select(rectified > 0, root(exp_avg_sq) * unbias + eps, F(1));
        this->move(y, g / size + decay * y, z);
    }
};

} // namespace
} // namespace stepsize
