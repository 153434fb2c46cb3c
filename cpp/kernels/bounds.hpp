// What follows the update of parameters: the proximal step of an L1 penalty, and bounds.
#pragma once

#include "core/types.hpp"
#include "kernels/primitives.hpp"

namespace stepsize {
namespace {

// A soft threshold, then the nearest numbers inside; NaN stays NaN. Passes over a tile that is in
// the first-level cache, not a part of every rule's own loop, which would double their code.
template <class F>
__attribute__((noinline)) void constrain(const Bounds& bounds, size_t from, size_t count, F* x) {
    const F threshold = F(*bounds.threshold);
    if (threshold > 0) {
#pragma omp simd
        for (size_t i = 0; i < count; ++i)
            x[i] = x[i] - clamp(x[i], threshold);
    }
    const F *lows = static_cast<const F*>(bounds.low), *highs = static_cast<const F*>(bounds.high);
    if (bounds.each) {
        lows += from;
        highs += from;
#pragma omp simd
        for (size_t i = 0; i < count; ++i)
            x[i] = within(x[i], lows[i], highs[i]);
        return;
    }
    const F low = *lows, high = *highs;
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        x[i] = within(x[i], low, high);
}

template <class F> void constrain_span(const Span& span) {
    constrain(span.bounds, 0, span.size, static_cast<F*>(span.x));
}

} // namespace
} // namespace stepsize
