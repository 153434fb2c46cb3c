// The options of the loop, in passes of their own over a tile that is in the first-level cache:
// what they do with the gradient before a rule, and with the move and the decay after it.
#pragma once

#include "kernels/operands.hpp"
#include "kernels/rule.hpp"

namespace stepsize {
namespace {

template <class F> struct Corrector {
    F scale, limit, decay, gain, factor;
    Corrector(const Prologue& p, const Correction& c)
        : scale(F(p.scale)), limit(F(p.limit)), decay(F(p.decay)), gain(F(c.gain)),
          factor(F(c.factor)) {}
    Corrector(const LoopTerms<F>& p, const Correction& c)
        : scale(p.scale), limit(p.limit), decay(p.decay), gain(F(c.gain)), factor(F(c.factor)) {}

    F seen(F g, F x) const { return clamp(g * scale, limit) + decay * x; }

    void plain(const F* x, const F* g, F* out, size_t count) const {
        const Corrector here = *this;
#pragma omp simd
        for (size_t i = 0; i < count; ++i)
            out[i] = here.seen(g[i], x[i]);
    }
    void corrected(const F* x, const F* g, const F* last, F* out, size_t count) const {
        const Corrector here = *this;
#pragma omp simd
        for (size_t i = 0; i < count; ++i) {
            const F grad = here.seen(g[i], x[i]);
            out[i] = (grad + here.gain * (grad - last[i])) * here.factor;
        }
    }
    // The same, and the gradient takes the place of the last one.
    void correct(const F* x, const F* g, F* last, F* out, size_t count) const {
        const Corrector here = *this;
#pragma omp simd
        for (size_t i = 0; i < count; ++i) {
            const F grad = here.seen(g[i], x[i]);
            out[i] = (grad + here.gain * (grad - last[i])) * here.factor;
            last[i] = grad;
        }
    }
};

// The corrected gradient of a tile in `out`, for a rule of so many slots.
template <class F> __attribute__((noinline)) void correct_tile(const LoopTerms<F>& p,
                                                               const Span& span, int slots,
                                                               size_t from, size_t count,
                                                               const F* x, const F* g, F* out) {
    alignas(64) F buffer[tile];
    const Slot& slot = span.slots[slots];
    F* last = open_tile(slot, from, count, buffer);
    Corrector<F>(p, *span.correction).correct(x, g, last, out, count);
    const uint64_t key = hash64(p.rounding_key + span.place * max_slots + uint64_t(slots));
    close_tile(slot, from, count, last, uint32_t(hash64(key + span.first + from / tile)));
}

// Cautious updates (Liang et al. 2024, arXiv:2411.16085): a move along the gradient is undone.
template <class F> __attribute__((noinline)) void
hold_back(const LoopTerms<F>& p, F* x, const F* before, const F* g, size_t count) {
    const LoopTerms<F> here = p;
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
        const F grad = here.gradient(g[i], before[i]);
        const F start = before[i] * here.shrink;
        x[i] = select(not_descending(start, x[i], grad), start, x[i]);
    }
}

// Cautious weight decay (Chen et al. 2025, arXiv:2510.12402, Algorithm 1): only where the update
// does not lead away from 0.
template <class F>
__attribute__((noinline)) void decay_inward(F share, const F* before, F* x, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        x[i] = select(outward(before[i], x[i]), x[i], x[i] - share * before[i]);
}

// What comes after a rule that had the parameter undecayed.
template <class F> __attribute__((noinline)) void amend(const LoopTerms<F>& given,
                                                        const LoopTerms<F>& free, F* x,
                                                        const F* before, const F* g, size_t count) {
    if (given.holds_back())
        hold_back(free, x, before, g, count);
    if (given.decays_apart())
        decay_inward(given.shrink, before, x, count);
}

// What the rule's own loop leaves out where the options of the loop do it.
template <class F> __attribute__((noinline)) void leave_out(LoopTerms<F>& free) {
    if (free.decays_apart())
        free.shrink = 1;
    if (free.corrects()) {
        free.scale = 1;
        free.limit = F(__builtin_inf());
        free.decay = 0;
    }
}

} // namespace
} // namespace stepsize
