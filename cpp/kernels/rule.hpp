// A bound rule, ready for one update of one leaf: its inputs, and what it may declare about its
// slots.
#pragma once

#include "kernels/quantization.hpp"

namespace stepsize {
namespace {

// The inputs of a rule besides its hyperparameters: the number of this update of the leaf, from 1,
// and the scalars it keeps for the leaf.
struct StepContext {
    int64_t t;
    double* scalars;
};

// What the loop does around a rule. Switches, here and in rules, are numbers of the loop's type, 0
// or 1: a bool would prevent vectorization.
template <class F> struct LoopTerms {
    F scale, limit, decay, shrink, cautious, follow;
    uint64_t rounding_key;
    bool first;

    // The gradient at x as the rule sees it; the second form leaves out the decay.
    F gradient(F g, F x) const { return slope(g) + decay * x; }
    F slope(F g) const { return clamp(g * scale, limit); }
    // What `cautious` says; of decay that comes apart, `shrink` is the share that it takes.
    bool holds_back() const { return int(cautious) & 1; }
    bool decays_apart() const { return int(cautious) & 2; }
    bool corrects() const { return int(cautious) & 4; }
};

template <class R, class F> struct BoundRule : LoopTerms<F> {
    R rule;
};

template <class T> struct Always {
    using type = void;
};

// What a rule may declare about its slots. start: the slot that keeps the parameter at the leaf's
// first update; the loop fills it. In rules of two passes the first pass uses the slots from
// `early` on, the last pass the first `late` ones.
template <class R, class = void> struct Start {
    static constexpr int slot = -1;
};
template <class R> struct Start<R, typename Always<char[R::start + 1]>::type> {
    static constexpr int slot = R::start;
};
template <class R, class = void> struct HasSums {
    static constexpr bool value = false;
};
template <class R> struct HasSums<R, typename Always<char[R::sums]>::type> {
    static constexpr bool value = true;
};
template <class R, class = void> struct Early {
    static constexpr int first = 0;
};
template <class R> struct Early<R, typename Always<char[R::early + 1]>::type> {
    static constexpr int first = R::early;
};
template <class R, int slots, class = void> struct Late {
    static constexpr int count = slots;
};
template <class R, int slots> struct Late<R, slots, typename Always<char[R::late + 1]>::type> {
    static constexpr int count = R::late;
};

// limited: the rule sees gradients as `squarable` leaves them, by the limit that all have. For
// rules without coupled decay, which is added after it.
template <class R, class = void> struct Limited {
    static constexpr bool value = false;
};
template <class R> struct Limited<R, typename Always<char[int(R::limited) + 1]>::type> {
    static constexpr bool value = R::limited;
};

template <class R, class F, class Numbers>
void prepare(const double* numbers, int64_t t, double* scalars, const Prologue& p, void* out) {
    static_assert(sizeof(BoundRule<R, F>) <= max_bound_rule, "enlarge max_bound_rule");
    static_assert(sizeof(Numbers) <= max_numbers * sizeof(double), "enlarge max_numbers");
    Numbers h;
    __builtin_memcpy(&h, numbers, sizeof h);
    const F limit = Limited<R>::value ? squarable(F(p.limit)) : F(p.limit);
    const BoundRule<R, F> bound = {{F(p.scale), limit, F(p.decay), F(p.shrink), F(p.cautious),
                                    F(p.follow), hash64(uint64_t(t)), t == 1},
                                   R(h, StepContext{t, scalars})};
    __builtin_memcpy(out, &bound, sizeof bound);
}

template <size_t... K> struct Indices {};
template <size_t N, size_t... K> struct Counted : Counted<N - 1, N - 1, K...> {};
template <size_t... K> struct Counted<0, K...> {
    using type = Indices<K...>;
};

} // namespace
} // namespace stepsize
