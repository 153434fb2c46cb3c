// Sums over a leaf before its update, by which gradients (MARS) or the rate (update clipping) are
// scaled: a pass of its own over the gradient and one or two slots, the same for every rule.
#pragma once

#include "kernels/options.hpp"

namespace stepsize {
namespace {

// The terms of update clipping. Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2.
template <class F>
void add_ratios(const Look& look, const F* g, const F* squares, size_t count, Lanes& total) {
    const F beta2 = F(look.beta2), fresh = F(1 - look.beta2);
    const F unbias = F(look.unbias), least = F(look.least);
    total.add(count, 0, [=](size_t i) {
        const F second = beta2 * squares[i] + fresh * g[i] * g[i];
        const F ratio = g[i] * g[i] / maximum(second * unbias, least);
        return double(select(g[i] != 0, ratio, F(0)));
    });
}

template <class F> double look(const Look& look, const Span& span) {
    Span seen = span;
    seen.slots[0] = span.slots[look.squares < 0 ? look.last : look.squares];
    seen.slots[1] = span.slots[look.last < 0 ? look.squares : look.last];
    TileOperands<F, 2> at(seen, 0);
    const Corrector<F> corrector(look.prologue, look.correction);
    Lanes total;
    alignas(64) F gradient[tile];
    for (size_t from = 0; from < span.size; from += tile) {
        const size_t count = span.size - from < tile ? span.size - from : tile;
        at.open(from, count);
        if (look.last < 0)
            corrector.plain(at.x, at.g, gradient, count);
        else
            corrector.corrected(at.x, at.g, at.slots[1], gradient, count);
        if (look.squares < 0)
            total.add(count, 0, [&](size_t i) { return square(double(gradient[i])); });
        else
            add_ratios(look, gradient, at.slots[0], count, total);
    }
    return total.total();
}

} // namespace
} // namespace stepsize
