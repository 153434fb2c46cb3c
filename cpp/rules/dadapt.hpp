// D-Adaptation: rules that find their rate from an estimate of the distance to the solution.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// The distance estimate, which is d0 before the first step.
inline double estimate(double kept, double d0) { return kept > 0 ? kept : d0; }

// D-Adaptation for SGD. Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 4.
template <class F> struct DAdaptSGD {
    static constexpr int sums = 3, start = 0;
    enum { d, numerator, slope, fresh };
    double pull;
    F rate, rest, opening;
    DAdaptSGD(const DAdaptSGDNumbers& h, StepContext context)
        : pull(context.scalars[slope] > 0
                   ? estimate(context.scalars[d], h.d0) * h.lr / context.scalars[slope]
                   : 0),
          rate(F(pull)), rest(F(1 - h.momentum)), opening(F(context.scalars[fresh])) {}

    Terms measure(F, F g, F&, F& sum) const {
        const double along = pull * (double(g) * double(sum));
        sum += rate * g;
        return {along, square(double(sum)), square(double(g))};
    }
    // The first step only measures the norm of the gradient.
    static void settle(const DAdaptSGDNumbers& h, StepContext context, const double* sums) {
        double* kept = context.scalars;
        kept[fresh] = kept[slope] > 0 ? 0 : 1;
        kept[slope] = kept[slope] > 0 ? kept[slope] : root(sums[2]);
        kept[numerator] += sums[0];
        const double known = estimate(kept[d], h.d0);
        const double found = sums[1] > 0 ? 2 * kept[numerator] / root(sums[1]) : 0;
        kept[d] = maximum(known, minimum(found, known * h.growth_rate));
    }
    void operator()(F& x, F g, F& x0, F& sum) const {
        sum = select(opening > 0, sum + rate * g, sum);
        x = lerp(x, x0 - sum, rest);
    }
};

// D-Adaptation for Adam. Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5.
template <class F> struct DAdaptAdam {
    static constexpr int sums = 2, late = 2;
    enum { d, numerator, used };
    double pull;
    F beta1, beta2, beta3, fresh1, fresh2, fresh3, eps, shrink;
    DAdaptAdam(const DAdaptAdamNumbers& h, StepContext context)
        : pull(rate(h, context, estimate(context.scalars[d], h.d0))), beta1(F(h.beta1)),
          beta2(F(h.beta2)), beta3(F(root(h.beta2))), fresh1(F(pull * (1 - h.beta1))),
          fresh2(F(1 - h.beta2)), fresh3(F(pull * (1 - root(h.beta2)))), eps(F(h.eps)),
          shrink(F(h.decouple * h.weight_decay * rate(h, context, context.scalars[used]))) {}

    static double rate(const DAdaptAdamNumbers& h, StepContext context, double size) {
        const double corrected =
            root(1 - power(h.beta2, context.t)) / (1 - power(h.beta1, context.t));
        return size * h.lr * (h.use_bias_correction != 0 ? corrected : 1);
    }
    Terms measure(F, F g, F& exp_avg, F& exp_avg_sq, F& sum) const {
        const double along = pull * (double(g) * double(sum / (root(exp_avg_sq) + eps)));
        exp_avg = beta1 * exp_avg + fresh1 * g;
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        sum = beta3 * sum + fresh3 * g;
        return {along, abs_(double(sum))};
    }
    static void settle(const DAdaptAdamNumbers& h, StepContext context, const double* sums) {
        double* kept = context.scalars;
        const double known = estimate(kept[d], h.d0), beta3 = root(h.beta2);
        kept[used] = sums[1] > 0 ? known : 0;
        kept[numerator] = beta3 * kept[numerator] + (1 - beta3) * sums[0];
        const double found = sums[1] > 0 ? kept[numerator] / ((1 - beta3) * sums[1]) : 0;
        kept[d] = maximum(known, minimum(found, known * h.growth_rate));
    }
    void operator()(F& x, F, F& exp_avg, F& exp_avg_sq, F&) const {
        x -= shrink * x;
        x -= exp_avg / (root(exp_avg_sq) + eps);
    }
};

} // namespace
} // namespace stepsize
