// Adam and its relatives.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// RAdam's rectification of the second moment after t gradients. Liu et al. 2020, arXiv:1908.03265,
// section 4: the length of the equivalent simple average, and the factor that rectifies the
// variance.
struct Rectifier {
    double limit, length;
    Rectifier(double beta2, int64_t t) : limit(2 / (1 - beta2) - 1) {
        const double kept = power(beta2, t);
        length = limit - 2 * double(t) * kept / (1 - kept);
    }
    double factor() const {
        return root((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length));
    }
};

// Adam. Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1. AdamW is the same rule after a decoupled
// decay.
template <class F> struct AdamCore {
    F step, beta2, fresh1, fresh2, unbias, eps;
    AdamCore(double lr, double beta1_, double beta2_, double eps_, int64_t t)
        : step(F(lr / (1 - power(beta1_, t)))), beta2(F(beta2_)), fresh1(F(1 - beta1_)),
          fresh2(F(1 - beta2_)), unbias(F(1 / root(1 - power(beta2_, t)))), eps(F(eps_)) {}

    void average(F g, F& exp_avg, F& exp_avg_sq) const {
        exp_avg = lerp(exp_avg, g, fresh1);
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
    }
    void move(F& x, F exp_avg, F second) const {
        x -= step * exp_avg / (root(second) * unbias + eps);
    }
};

template <class F> struct Adam : AdamCore<F> {
    Adam(const AdamNumbers& h, StepContext context)
        : AdamCore<F>(h.lr, h.beta1, h.beta2, h.eps, context.t) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq) const {
        this->average(g, exp_avg, exp_avg_sq);
        this->move(x, exp_avg, exp_avg_sq);
    }
};

// AMSGrad. Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2, with the corrections of torch.
template <class F> struct AdamAMSGrad : AdamCore<F> {
    AdamAMSGrad(const AdamAMSGradNumbers& h, StepContext context)
        : AdamCore<F>(h.lr, h.beta1, h.beta2, h.eps, context.t) {}

    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq, F& max_exp_avg_sq) const {
        this->average(g, exp_avg, exp_avg_sq);
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq);
        this->move(x, exp_avg, max_exp_avg_sq);
    }
};

} // namespace
} // namespace stepsize
