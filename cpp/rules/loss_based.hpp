// Polyak step sizes: the gap between the loss and its lower bound sets the rate.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// Stochastic Polyak step size. Loizou et al. 2021, arXiv:2002.10542, equation 4.
template <class F> struct PolyakSGD {
    static constexpr int sums = 1;
    F step;
    PolyakSGD(const PolyakSGDNumbers& h, StepContext context)
        : step(F(h.scaling * minimum(context.scalars[0], h.lr))) {}

    Terms measure(F, F g) const { return {square(double(g))}; }
    static void settle(const PolyakSGDNumbers& h, StepContext context, const double* sums) {
        const double gap = h.loss - h.f_min;
        const double below = sums[0] + h.eps;
        context.scalars[0] =
            below > 2.220446049250313e-16 ? (h.positive != 0 ? maximum(gap, 0.0) : gap) / below : 0;
    }
    void operator()(F& x, F g) const { x -= step * g; }
};

// The scalars of MoMo: averages of the loss and of <g, x>, the lower bound of the loss, the rate
// that the model of the loss asks for, and the weight of all steps so far in an average.
enum Momo { loss_average, product_average, lower_bound, polyak, unbias };

// Schaipp et al. 2024, arXiv:2305.07583: equation 9 for the step, section 4.1 for the lower bound.
// sums: <g, x>, <m, x>, |m|^2.
inline void model_loss(double* kept, const double* sums, double fresh, double weight, double lr,
                       double weight_decay, double loss, bool adapt, double lb) {
    kept[loss_average] = (1 - fresh) * kept[loss_average] + fresh * loss;
    kept[product_average] = (1 - fresh) * kept[product_average] + fresh * sums[0];
    const double widen = 1 + lr * weight_decay;
    double bound = maximum(kept[lower_bound], lb);
    const double cap = widen * (kept[loss_average] - kept[product_average]) + sums[1];
    if (adapt && cap < widen * weight * bound)
        bound = maximum(cap / (2 * widen * weight), lb);
    kept[polyak] = maximum(cap - widen * weight * bound, 0.0) / sums[2];
    if (!(sums[2] > 0))
        kept[polyak] = 0;
    const double tau = minimum(kept[polyak], lr / weight);
    const double here = kept[loss_average] + sums[1] - kept[product_average];
    kept[lower_bound] = adapt ? maximum((here - tau * sums[2] / 2) / weight, lb) : bound;
    kept[unbias] = weight;
}

// MoMo. Schaipp et al. 2024, arXiv:2305.07583, Algorithm 1.
template <class F> struct MoMo {
    static constexpr int sums = 3;
    F beta, fresh, tau, widen;
    MoMo(const MoMoNumbers& h, StepContext context)
        : beta(F(h.bias_correction == 0 && context.t == 1 ? 0 : h.beta)),
          fresh(F(h.bias_correction == 0 && context.t == 1 ? 1 : 1 - h.beta)),
          tau(F(minimum(context.scalars[polyak], h.lr / context.scalars[unbias]))),
          widen(F(1 + h.lr * h.weight_decay)) {}

    Terms measure(F x, F g, F& grad_avg) const {
        grad_avg = beta * grad_avg + fresh * g;
        const double average = double(grad_avg);
        return {double(g) * double(x), average * double(x), square(average)};
    }
    static void settle(const MoMoNumbers& h, StepContext context, const double* sums) {
        const double fresh = h.bias_correction == 0 && context.t == 1 ? 1 : 1 - h.beta;
        const double weight = h.bias_correction != 0 ? 1 - power(h.beta, context.t) : 1;
        model_loss(context.scalars, sums, fresh, weight, h.lr, h.weight_decay, h.loss,
                   h.use_fstar != 0, h.lb);
    }
    void operator()(F& x, F, F& grad_avg) const { x = (x - tau * grad_avg) / widen; }
};

// MoMo-Adam. Schaipp et al. 2024, arXiv:2305.07583, Algorithm 2.
template <class F> struct MoMoAdam {
    static constexpr int sums = 3;
    F beta1, beta2, fresh1, fresh2, unbias2, eps, tau, widen;
    MoMoAdam(const MoMoAdamNumbers& h, StepContext context)
        : beta1(F(h.beta1)), beta2(F(h.beta2)), fresh1(F(1 - h.beta1)), fresh2(F(1 - h.beta2)),
          unbias2(F(1 / root(1 - power(h.beta2, context.t)))), eps(F(h.eps)),
          tau(F(minimum(context.scalars[polyak], h.lr / context.scalars[unbias]))),
          widen(F(1 + h.lr * h.weight_decay)) {}

    F scaled(F grad_avg, F grad_avg_sq) const {
        return grad_avg / (root(grad_avg_sq) * unbias2 + eps);
    }
    Terms measure(F x, F g, F& grad_avg, F& grad_avg_sq) const {
        // Not reloaded from the state, which would wait for the stores.
        const F first = beta1 * grad_avg + fresh1 * g;
        const F second = beta2 * grad_avg_sq + fresh2 * g * g;
        grad_avg = first;
        grad_avg_sq = second;
        const double average = double(first);
        return {double(g) * double(x), average * double(x),
                average * double(scaled(first, second))};
    }
    static void settle(const MoMoAdamNumbers& h, StepContext context, const double* sums) {
        model_loss(context.scalars, sums, 1 - h.beta1, 1 - power(h.beta1, context.t), h.lr,
                   h.weight_decay, h.loss, h.use_fstar != 0, h.lb);
    }
    void operator()(F& x, F, F& grad_avg, F& grad_avg_sq) const {
        x = (x - tau * scaled(grad_avg, grad_avg_sq)) / widen;
    }
};

} // namespace
} // namespace stepsize
