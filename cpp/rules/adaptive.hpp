// Adaptive rules, which divide by a statistic of squared past gradients.
#pragma once

#include "kernels/loop.hpp"

namespace stepsize {
namespace {

// Adagrad. Duchi, Hazan & Singer 2011, JMLR 12, Figure 1 (diagonal form).
template <class F> struct Adagrad {
    F lr, eps;
    Adagrad(const AdagradNumbers& h, StepContext context)
        : lr(F(h.lr / (1 + double(context.t - 1) * h.lr_decay))), eps(F(h.eps)) {}

    void operator()(F& x, F g, F& sum) const {
        sum += g * g;
        x -= lr * g / (root(sum) + eps);
    }
};

// RMSprop. Tieleman & Hinton 2012, lecture 6.5; centred and with momentum, Graves 2013,
// arXiv:1308.0850, equations 38 to 41.
template <class F> struct RMSpropCore {
    F lr, alpha, rest, eps, momentum;
    RMSpropCore(double lr_, double alpha_, double eps_, double momentum_)
        : lr(F(lr_)), alpha(F(alpha_)), rest(F(1 - alpha_)), eps(F(eps_)), momentum(F(momentum_)) {}

    F plain(F g, F& square_avg) const {
        square_avg = alpha * square_avg + rest * g * g;
        return root(square_avg) + eps;
    }
    // Rounding may leave the variance a little below 0; an infinite one has no step.
    F centered(F g, F& square_avg, F& grad_avg) const {
        square_avg = alpha * square_avg + rest * g * g;
        grad_avg = lerp(grad_avg, g, rest);
        const F variance = maximum(square_avg - grad_avg * grad_avg, F(0));
        return root(select(square_avg <= Bits<F>::largest, variance, square_avg)) + eps;
    }
    void coast(F& x, F g, F size, F& buffer) const {
        buffer = momentum * buffer + g / size;
        x -= lr * buffer;
    }
};

template <class F> struct RMSprop : RMSpropCore<F> {
    RMSprop(const RMSpropNumbers& h, StepContext) : RMSpropCore<F>(h.lr, h.alpha, h.eps, 0) {}

    void operator()(F& x, F g, F& square_avg) const {
        x -= this->lr * g / this->plain(g, square_avg);
    }
};

template <class F> struct RMSpropMomentum : RMSpropCore<F> {
    RMSpropMomentum(const RMSpropMomentumNumbers& h, StepContext)
        : RMSpropCore<F>(h.lr, h.alpha, h.eps, h.momentum) {}

    void operator()(F& x, F g, F& square_avg, F& buffer) const {
        this->coast(x, g, this->plain(g, square_avg), buffer);
    }
};

template <class F> struct RMSpropCentered : RMSpropCore<F> {
    RMSpropCentered(const RMSpropCenteredNumbers& h, StepContext)
        : RMSpropCore<F>(h.lr, h.alpha, h.eps, 0) {}

    void operator()(F& x, F g, F& square_avg, F& grad_avg) const {
        x -= this->lr * g / this->centered(g, square_avg, grad_avg);
    }
};

template <class F> struct RMSpropCenteredMomentum : RMSpropCore<F> {
    RMSpropCenteredMomentum(const RMSpropCenteredMomentumNumbers& h, StepContext)
        : RMSpropCore<F>(h.lr, h.alpha, h.eps, h.momentum) {}

    void operator()(F& x, F g, F& square_avg, F& grad_avg, F& buffer) const {
        this->coast(x, g, this->centered(g, square_avg, grad_avg), buffer);
    }
};

// Adadelta. Zeiler 2012, arXiv:1212.5701, Algorithm 1.
template <class F> struct Adadelta {
    F lr, rho, rest, eps;
    Adadelta(const AdadeltaNumbers& h, StepContext)
        : lr(F(h.lr)), rho(F(h.rho)), rest(F(1 - h.rho)), eps(F(h.eps)) {}

    void operator()(F& x, F g, F& square_avg, F& acc_delta) const {
        square_avg = rho * square_avg + rest * g * g;
        const F delta = root(acc_delta + eps) / root(square_avg + eps) * g;
        acc_delta = rho * acc_delta + rest * delta * delta;
        x -= lr * delta;
    }
};

} // namespace
} // namespace stepsize
