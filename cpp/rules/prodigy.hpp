// Prodigy: D-Adaptation with an estimate that grows faster.
#pragma once

#include "rules/dadapt.hpp"

namespace stepsize {
namespace {

// Prodigy. Mishchenko & Defazio 2024, arXiv:2306.06101, Algorithm 4.
template <class F> struct Prodigy {
    static constexpr int sums = 2, start = 3, early = 2, late = 2;
    enum { d, d_max, numerator, used, moving };
    double pull;
    F beta1, beta2, beta3, fresh1, fresh2, fresh3, eps, shrink, step;
    Prodigy(const ProdigyNumbers& h, StepContext context)
        : Prodigy(h, estimate(context.scalars[d], h.d0),
                  rate(h, context, estimate(context.scalars[d], h.d0)), context.scalars[used],
                  rate(h, context, context.scalars[used]) * context.scalars[moving]) {}

    // size and next are for the first pass; old and last, values from before settle, for the last
    // pass.
    Prodigy(const ProdigyNumbers& h, double size, double next, double old, double last)
        : pull(size / h.d0 * next), beta1(F(h.beta1)), beta2(F(h.beta2)), beta3(F(root(h.beta2))),
          fresh1(F(old * (1 - h.beta1))), fresh2(F(old * old * (1 - h.beta2))),
          fresh3(F(size / h.d0 * (h.safeguard_warmup != 0 ? size : next))), eps(F(size * h.eps)),
          shrink(F(h.decouple * h.weight_decay * last)), step(F(last)) {}

    static double rate(const ProdigyNumbers& h, StepContext context, double size) {
        const double corrected =
            root(1 - power(h.beta2, context.t)) / (1 - power(h.beta1, context.t));
        return size * h.lr * (h.use_bias_correction != 0 ? corrected : 1);
    }
    Terms measure(F x, F g, F&, F&, F& sum, F& x0) const {
        const double along = pull * (double(g) * (double(x0) - double(x)));
        sum = beta3 * sum + fresh3 * g;
        return {along, abs_(double(sum))};
    }
    static void settle(const ProdigyNumbers& h, StepContext context, const double* sums) {
        double* kept = context.scalars;
        const double known = estimate(kept[d], h.d0);
        const double best = estimate(kept[d_max], h.d0);
        const bool moved = sums[1] > 0;
        kept[used] = known;
        kept[moving] = moved ? 1 : 0;
        kept[numerator] = root(h.beta2) * kept[numerator] + sums[0];
        const double found = moved ? h.d_coef * kept[numerator] / sums[1] : 0;
        const double grown = known == h.d0 ? maximum(known, found) : known;
        kept[d_max] = maximum(best, found);
        kept[d] = minimum(kept[d_max], grown * h.growth_rate);
    }
    void operator()(F& x, F g, F& exp_avg, F& exp_avg_sq, F&, F&) const {
        exp_avg = beta1 * exp_avg + fresh1 * g;
        exp_avg_sq = beta2 * exp_avg_sq + fresh2 * g * g;
        x -= shrink * x;
        x -= step * exp_avg / (root(exp_avg_sq) + eps);
    }
};

} // namespace
} // namespace stepsize
