// Variants of Adam with another denominator.
#pragma once

#include "rules/adam.hpp"

namespace stepsize {
namespace {

// Adamax. Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2.
template <class F> struct Adamax {
    F step, beta2, fresh1, eps;
    Adamax(const AdamaxNumbers& h, StepContext context)
        : step(F(h.lr / (1 - power(h.beta1, context.t)))), beta2(F(h.beta2)),
          fresh1(F(1 - h.beta1)), eps(F(h.eps)) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_inf) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_inf = maximum(beta2 * exp_inf, abs_(g) + eps);
        x -= step * exp_avg / exp_inf;
    }
};

// RAdam. Liu et al. 2020, arXiv:1908.03265, Algorithm 2, with the threshold of torch.
template <class F> struct RAdam {
    F step, beta2, fresh1, fresh2, eps;
    F rectified;
    RAdam(const RAdamNumbers& h, StepContext context)
        : beta2(F(h.beta2)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)), eps(F(h.eps)) {
        const Rectifier r(h.beta2, context.t);
        rectified = F(r.length > 5);
        const double scale = r.length > 5 ? r.factor() * root(1 - power(h.beta2, context.t)) : 1;
        step = F(h.lr / (1 - power(h.beta1, context.t)) * scale);
    }

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        x -= step * exp_avg / select(rectified > 0, root(exp_avg_sq) + eps, F(1));
    }
};

// AdaBelief. Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2.
template <class F> struct AdaBelief : AdamCore<F> {
    AdaBelief(const AdaBeliefNumbers& h, StepContext context)
        : AdamCore<F>(h.lr, h.beta1, h.beta2, h.eps, context.t) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_var) const {
        exp_avg = lerp(exp_avg, g, this->fresh1);
        const F surprise = g - exp_avg;
        exp_avg_var = this->beta2 * exp_avg_var + this->fresh2 * surprise * surprise + this->eps;
        this->move(x, exp_avg, exp_avg_var);
    }
};

// Yogi. Zaheer et al. 2018, NeurIPS, Algorithm 2, with Adam's bias corrections.
template <class F> struct Yogi : AdamCore<F> {
    Yogi(const YogiNumbers& h, StepContext context)
        : AdamCore<F>(h.lr, h.beta1, h.beta2, h.eps, context.t) {}

    void operator()(F& x, F given, F& exp_avg, F& exp_avg_sq) const {
        const F g = squarable(given), size = g * g;
        exp_avg = lerp(exp_avg, g, this->fresh1);
        exp_avg_sq -= this->fresh2 * sign(exp_avg_sq - size) * size;
        this->move(x, exp_avg, exp_avg_sq);
    }
};

} // namespace
} // namespace stepsize
