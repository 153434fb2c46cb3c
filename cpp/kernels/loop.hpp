// The one loop: load, decay and scale, rule, store. Every rule, type and instruction set goes
// through it, so tails, prefetching and statistics are implemented here and nowhere else.
#pragma once

#include "core/table.hpp"
#include "kernels/options.hpp"
#include "kernels/quantized_loop.hpp"
#include "kernels/reduce.hpp"

namespace stepsize {
namespace {

// `count` is a multiple of `lanes`, so that no loop has a tail, in which each element would cost as
// much as a vector and which would be as long as the loop.
template <class R, class F, size_t... K>
inline void stretch(const BoundRule<R, F>& p, F* x, const F* g, F* const* slots, size_t from,
                    size_t count, Indices<K...>) {
    F* s[sizeof...(K) + 1] = {(slots[K] + from)..., nullptr};
    (void)s;
    (void)slots;
    x += from;
    g += from;
    count &= ~(lanes - 1);
    const BoundRule<R, F> here = p; // a copy the compiler may keep in registers
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
        const F grad = here.gradient(g[i], x[i]);
        F value = x[i] * here.shrink;
        here.rule(value, grad, s[K][i]...);
        x[i] = value;
    }
}

// The same out of line: what is rare is compiled once for a rule.
template <class R, class F, class Indices>
__attribute__((noinline)) void stretch_whole(const BoundRule<R, F>& p, F* x, const F* g,
                                             F* const* slots, size_t count, Indices indices) {
    stretch(p, x, g, slots, 0, count, indices);
}

// Fewer elements than a vector has lanes, in copies that are filled up with zeros.
template <class R, class F, size_t... K> void stretch_short(const BoundRule<R, F>& p, F* x,
                                                            const F* g, F* const* slots,
                                                            size_t count, Indices<K...> indices) {
    alignas(64) F copies[sizeof...(K) + 2][lanes] = {};
    F* const ends[] = {copies[K + 2]..., nullptr};
    (void)slots;
    const size_t bytes = count * sizeof(F);
    __builtin_memcpy(copies[0], x, bytes);
    __builtin_memcpy(copies[1], g, bytes);
    (__builtin_memcpy(ends[K], slots[K], bytes), ...);
    stretch_whole(p, copies[0], copies[1], ends, lanes, indices);
    __builtin_memcpy(x, copies[0], bytes);
    (__builtin_memcpy(slots[K], ends[K], bytes), ...);
}

// As a loop: the compiler would copy so many bytes in parts of 16, for any instruction set.
template <class F> inline void copy_lanes(F* to, const F* from) {
#pragma omp simd
    for (size_t i = 0; i < lanes; ++i)
        to[i] = from[i];
}

// A range of any length: the last `lanes` elements are computed first, in copies, and stored last.
// Where they overlap the whole vectors, both have the same values.
template <class R, class F, size_t... K>
__attribute__((noinline)) void stretch_any(const BoundRule<R, F>& p, F* x, const F* g,
                                           F* const* slots, size_t count, Indices<K...> indices) {
    const size_t left = count % lanes;
    if (left == 0)
        return stretch_whole(p, x, g, slots, count, indices);
    if (count < lanes)
        return stretch_short(p, x, g, slots, count, indices);
    const size_t last = count - lanes;
    alignas(64) F copies[sizeof...(K) + 1][lanes];
    F* const ends[] = {copies[K + 1]..., nullptr};
    copy_lanes(copies[0], x + last);
    (copy_lanes(ends[K], slots[K] + last), ...);
    stretch_whole(p, copies[0], g + last, ends, lanes, indices);
    stretch_whole(p, x, g, slots, count - left, indices);
    copy_lanes(x + last, copies[0]);
    (copy_lanes(slots[K] + last, ends[K]), ...);
}

// Squares that the plain sum so far cannot hold, once more to scale: one after the other, so that
// they do not depend on where a tile begins. `value` gives an element, times what it is given.
template <class Value>
void add_extremes(const Lanes& plain, double& small, double& large, size_t count, Value value) {
    double so_far = 0, top = 0;
    for (size_t j = 0; j < lanes; ++j)
        so_far += plain.sum[j];
    if (!(so_far < most_sum)) {
        for (size_t i = 0; i < count; ++i)
            large += square(value(i, 0x1p-600));
    } else if (so_far < least_sum) {
#pragma omp simd reduction(max : top)
        for (size_t i = 0; i < count; ++i)
            top = maximum(top, abs_(value(i, 0x1p600)));
        for (size_t i = 0; top > 0 && i < count; ++i)
            small += square(value(i, 0x1p600));
    }
}

// The sums of squares of gradients, parameters and updates, on their way. Where they are not
// `needed` they stay unset: zeros would take as long as the update of a dozen elements.
struct Tally {
    const Bounds& bounds;
    size_t taken = 0;
    Lanes grad, param, update;

    __attribute__((noinline)) Tally(const Bounds& bounds_, bool needed)
        : bounds(bounds_), grad(Lanes::unset), param(Lanes::unset), update(Lanes::unset) {
        if (needed)
            grad = param = update = Lanes();
    }

    // It constrains the parameters first: the update is the one to the point inside.
    template <class F> __attribute__((noinline)) void add(const F* g, const F* before, F* x,
                                                          size_t count, size_t lane, Sums* sums) {
        if (bounds.low)
            constrain(bounds, taken, count, x);
        taken += count;
        if (!sums)
            return;
        add_plain(g, before, x, count, lane);
        if (sizeof(F) < sizeof(double))
            return;
        add_extremes(grad, sums->small[0], sums->large[0], count,
                     [=](size_t i, double scale) { return double(g[i]) * scale; });
        add_extremes(param, sums->small[1], sums->large[1], count,
                     [=](size_t i, double scale) { return double(before[i]) * scale; });
        // Large numbers are scaled before their difference can overflow, small ones after it.
        add_extremes(update, sums->small[2], sums->large[2], count, [=](size_t i, double scale) {
            const double inner = scale < 1 ? scale : 1, outer = scale < 1 ? 1 : scale;
            return (double(x[i]) * inner - double(before[i]) * inner) * outer;
        });
    }

  private:
    template <class F>
    void add_plain(const F* g, const F* before, const F* x, size_t count, size_t lane) {
        size_t done = 0;
#if defined(__GNUC__)
        done = count / lanes * lanes;
        for (size_t part = 0; part < lanes; part += width)
            add_part(g + part, before + part, x + part, done, part);
#endif
        const size_t left = count - done;
        g += done;
        before += done;
        x += done;
        grad.add(left, lane, [=](size_t i) { return square(double(g[i])); });
        param.add(left, lane, [=](size_t i) { return square(double(before[i])); });
        update.add(left, lane, [=](size_t i) { return square(double(x[i]) - double(before[i])); });
    }

#if defined(__GNUC__)
#if defined(__AVX512F__)
    static constexpr size_t width = 8;
#elif defined(__AVX__)
    static constexpr size_t width = 4;
#else
    static constexpr size_t width = 2;
#endif
    typedef double Part __attribute__((vector_size(width * sizeof(double))));

    // Some lanes at a time, as vectors: in a loop over all of them the compiler would keep the sums
    // in memory, and each addition would wait for the previous store.
    template <class F>
    void add_part(const F* g, const F* before, const F* x, size_t count, size_t part) {
        Part sums[3];
        __builtin_memcpy(&sums[0], grad.sum + part, sizeof(Part));
        __builtin_memcpy(&sums[1], param.sum + part, sizeof(Part));
        __builtin_memcpy(&sums[2], update.sum + part, sizeof(Part));
        for (size_t i = 0; i < count; i += lanes) {
            double terms[3][width];
            for (size_t j = 0; j < width; ++j) {
                terms[0][j] = double(g[i + j]);
                terms[1][j] = double(before[i + j]);
                terms[2][j] = double(x[i + j]) - terms[1][j];
            }
            for (size_t k = 0; k < 3; ++k) {
                Part term;
                __builtin_memcpy(&term, terms[k], sizeof(Part));
                sums[k] += term * term;
            }
        }
        __builtin_memcpy(grad.sum + part, &sums[0], sizeof(Part));
        __builtin_memcpy(param.sum + part, &sums[1], sizeof(Part));
        __builtin_memcpy(update.sum + part, &sums[2], sizeof(Part));
    }
#endif
};

// A tile from `from` on, with sums of squares and the options of the loop. Elements before the
// first cache line start in lane `lane`.
template <class R, class F, size_t... K>
void careful_stretch(const BoundRule<R, F>& p, TileOperands<F, int(sizeof...(K))>& at, size_t from,
                     size_t count, size_t lane, Tally& tally, Sums* sums, Indices<K...> indices) {
    alignas(64) F before[tile], corrected[tile];
    const bool needed = sums || p.holds_back() || p.decays_apart();
    for (size_t i = 0; i < (needed ? count : 0); ++i)
        before[i] = at.x[i];
    BoundRule<R, F> free = p;
    leave_out<F>(free);
    const F *given = at.g == at.x ? before : at.g, *seen = at.g;
    if (p.corrects()) {
        correct_tile<F>(p, at.span, int(sizeof...(K)), from, count, at.x, at.g, corrected);
        seen = corrected;
    }
    stretch_any(free, at.x, seen, at.slots, count, indices);
    if (p.cautious > 0)
        amend<F>(p, free, at.x, before, p.corrects() ? corrected : given, count);
    tally.add(given, before, at.x, count, lane, sums);
}

template <class R, class F> inline void keep_start(const F* x, F* const* slots, size_t count) {
    if (Start<R>::slot >= 0)
        __builtin_memcpy(slots[Start<R>::slot < 0 ? 0 : Start<R>::slot], x, count * sizeof(F));
}

// What follows the update of a tile, while it is in cache: constraints, unless they are met, and
// the fused EMA update. Half precision, which has no fused one, is constrained before it is
// rounded.
template <class F> __attribute__((noinline)) void follow_up(F share, const Span& span, size_t from,
                                                            size_t count, bool free) {
    if (free && span.bounds.low && !span.half.data)
        constrain(span.bounds, from, count, static_cast<F*>(span.x) + from);
    if (!span.average)
        return;
    const F* x = static_cast<F*>(span.x) + from;
    F* average = static_cast<F*>(span.average) + from;
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        average[i] = lerp(average[i], x[i], share);
}

template <class R, class F, int slot_count>
void run(const void* bound, const Span& span, Sums* sums) {
    // A copy: otherwise whatever stores to slots might change would be reloaded for every vector.
    const BoundRule<R, F> p = *static_cast<const BoundRule<R, F>*>(bound);
    const typename Counted<size_t(slot_count)>::type indices;
    TileOperands<F, slot_count> at(span, p.rounding_key);
    // Without a branch, for which the compiler would make two copies of all that follows.
    const bool careful = bool(sums) | (p.cautious > 0);
    Tally tally(span.bounds, careful);
    const size_t width = careful ? 0 : at.quantized_width();
    // Up to the first cache line of the parameters, so that the tiles after it store whole lines.
    const size_t offset = reinterpret_cast<size_t>(span.x) % 64;
    const bool apart = span.coded || offset == 0 || (!sums && span.size < tile);
    const size_t head = apart ? 0 : (64 - offset) / sizeof(F);
    for (size_t from = 0, next = 0; from < span.size; from = next) {
        const size_t left = span.size - from;
        const size_t most = from == 0 && head > 0 ? head : tile;
        const size_t count = left < most ? left : most;
        next = from + count;
        if (count < tile || !stretch_quantized(p, at, from, width, indices)) {
            at.open(from, count);
            if (p.first && !HasSums<R>::value)
                keep_start<R>(at.x, at.slots, count);
            if (careful) {
                const size_t lane = most == head ? lanes - head : 0;
                careful_stretch(p, at, from, count, lane, tally, sums, indices);
            } else if (span.ahead && !span.coded && count == tile) {
                for (size_t i = 0; i < tile; i += lanes) {
                    at.fetch(i, 0, Late<R, slot_count>::count);
                    stretch(p, at.x, at.g, at.slots, i, lanes, indices);
                }
            } else if (count % lanes == 0) {
                stretch(p, at.x, at.g, at.slots, 0, count, indices);
            } else {
                stretch_any(p, at.x, at.g, at.slots, count, indices);
            }
            at.close(from, count, true, !careful);
        }
        if (span.followed)
            follow_up(p.follow, span, from, count, !careful);
    }
    if (!sums)
        return;
    sums->grad = tally.grad.total(head);
    sums->param = tally.param.total(head);
    sums->update = tally.update.total(head);
}

// The first pass of a rule that has `static constexpr int sums`: its measure returns the terms of
// one element and may update the state.
struct Terms { // not an array, which would prevent vectorization
    double first, second = 0, third = 0;
};

template <class R, class F, size_t... K>
STEPSIZE_INLINE void measure_lanes(const BoundRule<R, F>& p, const F* x, const F* g,
                                   F* const* slots, size_t from, size_t count, Lanes* total,
                                   Indices<K...>) {
    F* s[sizeof...(K) + 1] = {(slots[K] + from)..., nullptr};
    (void)s;
    (void)slots;
    x += from;
    g += from;
#pragma omp simd
    for (size_t i = 0; i < count; ++i) {
        const F grad = p.gradient(g[i], x[i]);
        const Terms found = p.rule.measure(x[i], grad, s[K][i]...);
        total[0].sum[i] += found.first;
        if (R::sums > 1)
            total[1].sum[i] += found.second;
        if (R::sums > 2)
            total[2].sum[i] += found.third;
    }
}

template <class R, class F, int slot_count>
void measure(const void* bound, const Span& span, double* sums) {
    const BoundRule<R, F> p = *static_cast<const BoundRule<R, F>*>(bound);
    const typename Counted<size_t(slot_count)>::type indices;
    TileOperands<F, slot_count> at(span, p.rounding_key);
    Lanes total[R::sums];
    for (size_t from = 0; from < span.size; from += tile) {
        const size_t left = span.size - from;
        const size_t count = left < tile ? left : tile;
        at.open(from, count);
        if (p.first)
            keep_start<R>(at.x, at.slots, count);
        size_t i = 0;
        for (; i + lanes <= count; i += lanes) {
            if (span.ahead && !span.coded)
                at.fetch(i, Early<R>::first, slot_count);
            measure_lanes(p, at.x, at.g, at.slots, i, lanes, total, indices);
        }
        measure_lanes(p, at.x, at.g, at.slots, i, count - i, total, indices);
        at.close(from, count, false, false);
    }
    for (int k = 0; k < R::sums; ++k)
        sums[k] = total[k].total();
}

template <class R, class Numbers>
void settle(const double* numbers, int64_t t, double* scalars, const double* sums) {
    Numbers h;
    __builtin_memcpy(&h, numbers, sizeof h);
    R::settle(h, StepContext{t, scalars}, sums);
}

// The first pass of a rule: none, unless it declares its sums.
template <template <class> class R, class Numbers, int slots, class = void> struct FirstPass {
    static constexpr void add_to(Rule&) {}
};

template <template <class> class R, class Numbers, int slots>
struct FirstPass<R, Numbers, slots, typename Always<char[R<double>::sums]>::type> {
    static constexpr void add_to(Rule& rule) {
        rule.sums = R<double>::sums;
        static_assert(R<double>::sums <= max_sums, "enlarge max_sums");
        rule.measure[0] = measure<R<float>, float, slots>;
        rule.measure[1] = measure<R<double>, double, slots>;
        rule.settle = settle<R<double>, Numbers>;
    }
};

template <template <class> class R, class Numbers, int slots>
constexpr Rule describe(const char* name, const char* numbers) {
    static_assert(slots <= max_slots, "enlarge max_slots");
    Rule rule = {name, numbers, slots, {}, {}, 0, {}, nullptr, false, {}, {}, {}, {}, {}};
    rule.prepare[0] = prepare<R<float>, float, Numbers>;
    rule.prepare[1] = prepare<R<double>, double, Numbers>;
    rule.run[0] = run<R<float>, float, slots>;
    rule.run[1] = run<R<double>, double, slots>;
    FirstPass<R, Numbers, slots>::add_to(rule);
    return rule;
}

} // namespace
} // namespace stepsize
