// Layer-wise rules: norms over a leaf set the length of its step.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// The scalar of a leaf between the passes: the trust ratio, which multiplies the rate.
inline double trust(double numerator, double denominator) {
    return numerator > 0 && denominator > 0 ? numerator / denominator : 1;
}

// LARS. You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1.
template <class F> struct LARS {
    static constexpr int sums = 2;
    F lr, momentum, ratio, decay, nesterov;
    LARS(const LARSNumbers& h, StepContext context)
        : lr(F(h.lr)), momentum(F(h.momentum)), ratio(F(context.scalars[0])),
          decay(F(h.weight_decay)), nesterov(F(h.nesterov)) {}

    Terms measure(F x, F g, F&) const { return {square(double(x)), square(double(g))}; }
    static void settle(const LARSNumbers& h, StepContext context, const double* sums) {
        const double size = root(sums[0]), slope = root(sums[1]);
        const double ratio = trust(h.trust_coefficient * size,
                                   slope > 0 ? slope + h.weight_decay * size + h.eps : 0);
        context.scalars[0] = h.adapt != 0 ? ratio : 1;
    }
    void operator()(F& x, F g, F& buffer) const {
        const F pull = ratio * (g + decay * x);
        buffer = momentum * buffer + pull;
        x -= lr * select(nesterov > 0, pull + momentum * buffer, buffer);
    }
};

// LAMB. You et al. 2020, arXiv:1904.00962, Algorithm 2.
template <class F> struct LAMB {
    static constexpr int sums = 2;
    F beta2, fresh1, fresh2, unbias1, unbias2, eps, decay, step;
    LAMB(const LAMBNumbers& h, StepContext context)
        : beta2(F(h.beta2)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias1(F(1 / (1 - power(h.beta1, context.t)))),
          unbias2(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)),
          decay(F(h.weight_decay)), step(F(h.lr * context.scalars[0])) {}

    F direction(F x, F exp_avg, F exp_avg_sq) const {
        return exp_avg * unbias1 / (root(exp_avg_sq) * unbias2 + eps) + decay * x;
    }
    Terms measure(F x, F g, F& exp_avg, F& exp_avg_sq) const {
        // Not reloaded from the state, which would wait for the stores.
        const F average = lerp(exp_avg, g, fresh1);
        const F squares = beta2 * exp_avg_sq + fresh2 * g * g;
        exp_avg = average;
        exp_avg_sq = squares;
        return {square(double(x)), square(double(direction(x, average, squares)))};
    }
    static void settle(const LAMBNumbers& h, StepContext context, const double* sums) {
        context.scalars[0] = h.adapt != 0 ? trust(root(sums[0]), root(sums[1])) : 1;
    }
    void operator()(F& x, F, F& exp_avg, F& exp_avg_sq) const {
        x -= step * direction(x, exp_avg, exp_avg_sq);
    }
};

// NovoGrad. Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1.
template <class F> struct NovoGrad {
    static constexpr int sums = 1;
    F lr, beta1, size, decay;
    NovoGrad(const NovoGradNumbers& h, StepContext context)
        : lr(F(h.lr)), beta1(F(h.beta1)), size(F(root(context.scalars[0]) + h.eps)),
          decay(F(h.weight_decay)) {}

    Terms measure(F, F g, F&) const { return {square(double(g))}; }
    static void settle(const NovoGradNumbers& h, StepContext context, const double* sums) {
        double& second = context.scalars[0];
        second = context.t == 1 ? sums[0] : h.beta2 * second + (1 - h.beta2) * sums[0];
    }
    void operator()(F& x, F g, F& exp_avg) const {
        exp_avg = beta1 * exp_avg + (g / size + decay * x);
        x -= lr * exp_avg;
    }
};

} // namespace
} // namespace stepsize
