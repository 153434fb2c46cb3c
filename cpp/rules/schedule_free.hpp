// Schedule-free rules: an average of the iterates in place of a learning-rate decay.
#pragma once

#include "rules/adam.hpp"

namespace stepsize {
namespace {

// Schedule-free learning. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1; x holds the point y
// at which gradients are taken. decoupling: C of Song et al. 2025, arXiv:2507.09846.
template <class F> struct ScheduleFreeCore {
    F lr, share, step, first;
    ScheduleFreeCore(double rate, double beta, double r, double exponent, double decoupling,
                     StepContext context)
        : lr(F(rate)), first(F(context.t == 1)) {
        double &top = context.scalars[0], &sum = context.scalars[1];
        top = maximum(top, rate);
        const double weight = real_power(double(context.t), r) * real_power(top, exponent);
        sum += weight;
        double c = sum > 0 ? weight / sum : 0;
        if (decoupling > 0)
            c = minimum(c * (1 - beta) * decoupling, 1.0);
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
                              h.momentum, h.r, h.weight_lr_power, h.decoupling, context) {}

    void operator()(F& y, F g, F& z) const { this->move(y, g, z); }
};

template <class F> struct ScheduleFreeAdamW : ScheduleFreeCore<F> {
    F beta2, fresh2, unbias, eps, decay;
    ScheduleFreeAdamW(const ScheduleFreeAdamWNumbers& h, StepContext context)
        : ScheduleFreeCore<F>(ScheduleFreeCore<F>::warm(h.lr, h.warmup_steps, context.t), h.beta1,
                              h.r, h.weight_lr_power, h.decoupling, context),
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
        : ScheduleFreeCore<F>(h.lr * scale(h, context.t), h.beta1, h.r, h.weight_lr_power,
                              h.decoupling, context),
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

// ScheduleFree+: a Polyak step size from the L1 norm of the gradient. Defazio 2026,
// arXiv:2605.19095, as facebookresearch/schedule_free, adamc_schedulefree_plus_paper.py.
template <class F> struct ScheduleFreePlus {
    static constexpr int sums = 2, start = 2, early = 2;
    enum { polyak, grad_l1, lr_max, weight_sum, share, beta, turn };
    F rate, towards, rest, beta1, beta2, fresh1, fresh2, unbias1, unbias2, eps, decay;
    ScheduleFreePlus(const ScheduleFreePlusNumbers& h, StepContext context)
        : ScheduleFreePlus(h, context, h.lr * context.scalars[polyak], 1 - context.scalars[share]) {
    }
    ScheduleFreePlus(const ScheduleFreePlusNumbers& h, StepContext context, double size,
                     double kept)
        : rate(F(size)), towards(F(1 - context.scalars[turn] * kept)),
          rest(F(1 - context.scalars[beta] * kept)), beta1(F(h.beta1)), beta2(F(h.beta2)),
          fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias1(F(1 / (1 - power(h.beta1, context.t)))),
          unbias2(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)),
          decay(F(minimum(size * size * h.weight_decay, 1.0))) {}

    Terms measure(F y, F g, F&, F&, F& z) const {
        return {abs_(double(g)), double(g) * (double(z) - double(y))};
    }
    static void settle(const ScheduleFreePlusNumbers& h, StepContext context, const double* sums) {
        double* kept = context.scalars;
        const double before = double(context.t - 1);
        const double along =
            h.sf_beta1_anneal_steps > 0 ? minimum(before / h.sf_beta1_anneal_steps, 1.0) : 0;
        const double now =
            1 - real_power(1 - h.sf_beta1, 1 - along) * real_power(1 - h.sf_beta1_max, along);
        kept[turn] = kept[beta] > 0 ? now / kept[beta] : 1;
        kept[beta] = now;
        kept[grad_l1] =
            h.polyak_beta * kept[grad_l1] + (1 - h.polyak_beta) * sums[0] * 1.2533141373155003;
        const double size = kept[grad_l1] / (1 - power(h.polyak_beta, context.t));
        const double gap = maximum(h.loss - h.f_min + kept[turn] * sums[1], 0.0);
        kept[polyak] = size > 2.220446049250313e-16 ? gap / size : 0;
        kept[lr_max] = maximum(maximum(kept[lr_max], h.eps), h.lr * kept[polyak]);
        kept[share] = 1;
        if (before < h.c_warmup)
            return;
        const double weight =
            real_power(double(context.t), h.r) * real_power(kept[lr_max], h.weight_lr_power);
        kept[weight_sum] += weight;
        kept[share] = kept[weight_sum] > 0 ? weight / kept[weight_sum] : 0;
    }
    void operator()(F& y, F g, F& exp_avg, F& exp_avg_sq, F& z) const {
        exp_avg = beta1 * exp_avg + fresh1 * g;
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        const F d = rate * (exp_avg * unbias1 / (root(exp_avg_sq) * unbias2 + eps)) + decay * y;
        y = lerp(y, z, towards) - rest * d;
        z -= d;
    }
};

} // namespace
} // namespace stepsize
