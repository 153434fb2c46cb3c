#include "bind/engine/plan.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "bind/chunks.hpp"
#include "core/targets.hpp"

namespace stepsize {

void Plan::clear(bool by_leaf, bool averages) {
    by_leaf_ = by_leaf;
    averages_ = averages;
    ahead_ = prefetches();
    elements_ = 0;
    chunks_.clear();
    bound_.clear();
    matrices_.clear();
    blocks_.clear();
    last_bound_.assign(leaves_.groups().size(), {-1, -1});
}

// The index of a leaf's fields, shared by the leaves of a group with the same number of updates.
// Leaves that always have a gradient keep sharing it.
size_t Plan::bound_for(const Leaf& leaf) {
    int& known = last_bound_[size_t(leaf.group)][size_t(leaf.dtype)];
    if (known >= 0 && leaves_[bound_[size_t(known)].leaf].t == leaf.t &&
        (leaves_.group_of(leaf).shared >= 0 || leaves_.group_of(leaf).scalars.empty()) &&
        !leaves_.group_of(leaf).looks())
        return size_t(known);
    known = int(bound_.size());
    bound_.emplace_back();
    bound_.back().leaf = leaves_.index(leaf);
    return bound_.size() - 1;
}

// Whether the leaf's memory continues that of the leaf before, in the open span.
bool Plan::runs_on(size_t i, const Chunk& open, size_t bound) const {
    const Leaf &leaf = leaves_[i], &last = leaves_[i - 1];
    const Gradient &gradient = gradients_[i], &before = gradients_[i - 1];
    return leaf.adjacent && !by_leaf_ && leaf.x == last.x + last.bytes() &&
           gradient.dtype == leaf.dtype && bound == open.bound &&
           gradient.data == before.data + last.bytes() && open.span.g_dtype == gradient.dtype &&
           (!averages_ || leaf.average == last.average + last.bytes());
}

Chunk Plan::open_at(size_t i, size_t bound) const {
    const Leaf& leaf = leaves_[i];
    const Gradient& gradient = gradients_[i];
    Chunk open = {};
    open.leaf = i;
    open.bound = bound;
    open.rule = leaves_.group_of(leaf).rule;
    open.dtype = leaf.dtype;
    open.matrix = leaf.matrix;
    open.span.x = leaf.x;
    open.span.g = gradient.data;
    open.span.g_dtype = gradient.dtype;
    open.span.half = leaf.half;
    open.span.average = averages_ ? leaf.average : nullptr;
    open.span.bounds = leaf.bounds;
    open.span.followed = leaf.bounds.low || open.span.average;
    open.span.correction = &leaf.correction;
    open.span.size = leaf.size;
    std::copy(leaf.slots.begin(), leaf.slots.end(), open.span.slots);
    open.span.coded = leaf.coded || gradient.dtype != leaf.dtype;
    open.span.place = uint32_t(leaf.place < 0 ? int64_t(i) : leaf.place);
    open.span.first = leaf.first;
    return open;
}

void Plan::close(const Chunk& open) {
    const int more = open.rule && leaves_.group_of(leaves_[open.leaf]).mars_gamma >= 0;
    split(chunks_, open, open.rule && !open.matrix ? open.rule->slots + more : 0, ahead_);
}

// What a leaf adds to the step beside its span; the index of its fields.
size_t Plan::add(size_t i) {
    const Leaf& leaf = leaves_[i];
    const Gradient& gradient = gradients_[i];
    const size_t bound = bound_for(leaf);
    if (leaf.matrix)
        matrices_.add(leaf, gradient.data, bound);
    elements_ += leaf.size;
    for (size_t at = 0; at < leaf.size; at += chunk_size)
        blocks_.push_back({gradient.data + at * item_size(gradient.dtype),
                           std::min(chunk_size, leaf.size - at), gradient.dtype, i});
    return bound;
}

void Plan::lay_out_leaf(size_t i) {
    valid_ = waiting_ = false;
    clear(true, false);
    if (gradients_[i].data && leaves_[i].size)
        close(open_at(i, add(i)));
    matrices_.finish();
    block_sums_.resize(blocks_.size());
}

void Plan::lay_out(bool by_leaf, bool averages) {
    using Change = GradientSource::Change;
    waiting_ = false;
    const Change change = gradients_.change();
    if (valid_ && by_leaf == by_leaf_ && ahead_ == prefetches() && averages == averages_ &&
        (change == Change::none || (change == Change::address && follows_))) {
        if (change == Change::address)
            follow_gradients();
        return;
    }
    valid_ = false;
    clear(by_leaf, averages);
    follows_ = true;
    Chunk open = {};
    bool fresh = true; // no span is open at the leaf before
    for (size_t i = 0; i < leaves_.size(); ++i) {
        if (!gradients_[i].data || leaves_[i].size == 0) {
            fresh = true;
            continue;
        }
        follows_ = follows_ && !leaves_[i].matrix && (by_leaf_ || !leaves_[i].adjacent);
        const size_t bound = add(i);
        if (!fresh && runs_on(i, open, bound)) {
            open.span.size += leaves_[i].size;
        } else {
            close(open);
            open = open_at(i, bound);
        }
        fresh = false;
    }
    close(open);
    matrices_.finish();
    block_sums_.resize(blocks_.size());
    gradients_.settle_change();
    valid_ = true;
}

// The same layout with other gradients of the same kinds: arrays that are new in every step.
void Plan::follow_gradients() {
    size_t at = 0; // in the leaf
    for (size_t i = 0; i < chunks_.size(); ++i) {
        Chunk& chunk = chunks_[i];
        at = i > 0 && chunks_[i - 1].leaf == chunk.leaf ? at + chunk_size : 0;
        const Gradient& gradient = gradients_[chunk.leaf];
        chunk.span.g = blocks_[i].data = gradient.data + at * item_size(gradient.dtype);
    }
    gradients_.settle_change();
}

double Plan::total_of_squares(double scale, const Host* ranks) {
    run_chunks(blocks_.size(), elements_, [&](size_t i) {
        const Block& block = blocks_[i];
        block_sums_[i] = table().sum_of_squares[int(block.dtype)](block.data, block.size, scale);
    });
    if (ranks) {
        std::vector<int64_t> places;
        for (const Block& block : blocks_)
            places.push_back(int64_t(block.leaf));
        const std::vector<double> totals = ranks->combine(false, places, block_sums_, 1);
        return totals.empty() ? 0 : totals[0];
    }
    double total = 0;
    for (double sum : block_sums_)
        total += sum;
    return total;
}

// If the squares leave the range of double, the sum is repeated on scaled values.
double Plan::gradient_norm(bool& finite, const Host* ranks) {
    const double total = total_of_squares(1.0, ranks);
    finite = true;
    if (std::isfinite(total) && total > 1e-280)
        return std::sqrt(total);
    double top = 0;
    for (const Block& block : blocks_) {
        finite = finite && table().all_finite[int(block.dtype)](block.data, block.size, 1);
        top = std::max(top, table().largest[int(block.dtype)](block.data, block.size));
    }
    if (ranks) {
        top = ranks->largest(finite ? top : std::numeric_limits<double>::infinity());
        finite = std::isfinite(top);
    }
    if (!finite || top == 0)
        return std::sqrt(total);
    int exponent = 0;
    std::frexp(top, &exponent);
    const double unit = std::ldexp(1.0, std::clamp(exponent, -1020, 1020));
    return unit * std::sqrt(total_of_squares(1 / unit, ranks));
}

bool Plan::all_finite(int octaves) const {
    std::atomic<bool> finite{true};
    run_chunks(chunks_.size(), elements_, [&](size_t i) {
        const Span& span = chunks_[i].span;
        if (!table().all_finite[int(span.g_dtype)](span.g, span.size, octaves))
            finite.store(false, std::memory_order_relaxed);
    });
    return finite;
}

Prologue Plan::prologue_of(const Group& group, const StepTerms& terms) const {
    const double decay = group.value(group.weight_decay);
    return {terms.scale,
            terms.limit,
            group.decay == Group::Decay::coupled ? decay : 0,
            group.decay == Group::Decay::decoupled ? 1 - group.value(group.lr) * decay
            : group.decay == Group::Decay::apart   ? group.shrink_apart()
                                                   : 1,
            group.cautious,
            terms.share};
}

// Turns the hyperparameters of this step into the fields that the loop reads; `again` after sums
// were settled, which the others do not read: their scalars have moved on already.
void Plan::bind(const StepTerms& terms, bool again) {
    for (BoundFields& entry : bound_) {
        Leaf& leaf = leaves_[entry.leaf];
        Group& group = leaves_.group_of(leaf);
        if (again && group.rule->sums == 0)
            continue;
        double numbers[max_numbers];
        group.numbers(numbers);
        entry.prologue = prologue_of(group, terms);
        group.threshold = group.value(group.lr) * group.l1;
        if (group.whole)
            continue;
        if (group.update_clip >= 0)
            numbers[0] *= leaf.rate; // rules name the rate first
        group.rule->prepare[int(leaf.dtype)](numbers, leaf.t + 1, leaves_.scalars_of(leaf),
                                             entry.prologue, entry.fields);
    }
}

// The first pass: sums over each leaf, or over all of a part, in the order of leaves and chunks.
void Plan::measure(const StepTerms& terms, const Host* ranks) {
    run_chunks(chunks_.size(), elements_, [&](size_t i) {
        const Chunk& chunk = chunks_[i];
        if (!chunk.matrix && chunk.rule->sums > 0)
            chunk.rule->measure[int(chunk.dtype)](bound_[chunk.bound].fields, chunk.span,
                                                  parts_[i].data());
    });
    if (ranks)
        return settle_over(*ranks, terms.step, parts_);
    Parts own = {};
    for (size_t i = 0; i < chunks_.size(); ++i) {
        const Chunk& chunk = chunks_[i];
        const size_t sums = chunk.matrix ? 0 : size_t(chunk.rule->sums);
        if (sums == 0)
            continue;
        Leaf& leaf = leaves_[chunk.leaf];
        const int shared = leaves_.group_of(leaf).shared;
        Parts& total = shared < 0 ? own : together_[size_t(shared)];
        for (size_t k = 0; k < sums; ++k)
            total[k] += parts_[i][k];
        total[sums] += double(chunk.span.size);
        if (shared >= 0) {
            last_[size_t(shared)] = &leaf;
        } else if (i + 1 == chunks_.size() || chunks_[i + 1].leaf != chunk.leaf) {
            settle(leaf, terms.step, own.data());
            own = {};
        }
    }
    for (size_t k = 0; k < together_.size(); ++k)
        if (last_[k])
            settle(*last_[k], terms.step, together_[k].data());
}

void Plan::settle(Leaf& leaf, int64_t step, double* sums) {
    const Group& group = leaves_.group_of(leaf);
    const bool shared = group.shared >= 0;
    double numbers[max_numbers];
    // Scalars of all leaves are settled with the first group's hyperparameters, whichever leaves
    // have a gradient.
    const int first = shared ? leaves_.shared_scalars()[size_t(group.shared)].group : leaf.group;
    leaves_.groups()[size_t(first)].numbers(numbers);
    group.rule->settle(numbers, (shared ? step : leaf.t) + 1, leaves_.scalars_of(leaf), sums);
}

// The same where other ranks have the other chunks, in the order of the chunks of all, and all of
// one rule.
void Plan::settle_over(const Host& ranks, int64_t step, const std::vector<Parts>& parts) {
    constexpr size_t width = max_sums + 1;
    std::vector<int64_t> places;
    std::vector<double> terms;
    for (size_t i = 0; i < chunks_.size(); ++i) {
        if (chunks_[i].matrix)
            continue;
        Parts part = parts[i];
        part[size_t(chunks_[i].rule->sums)] = double(chunks_[i].span.size);
        places.push_back(int64_t(chunks_[i].leaf));
        terms.insert(terms.end(), part.begin(), part.end());
    }
    const bool shared = !leaves_.shared_scalars().empty();
    std::vector<double> totals = ranks.combine(!shared, places, terms, width);
    if (shared && !totals.empty())
        settle(leaves_[0], step, totals.data());
    for (size_t i = 0; !shared && i < places.size(); ++i)
        if (i == 0 || places[i] != places[i - 1])
            settle(leaves_[size_t(places[i])], step, totals.data() + size_t(places[i]) * width);
}

// The sums of squares over all leaves, of which other ranks have the others.
Sums Plan::total_over(const Host& ranks) const {
    std::vector<int64_t> places;
    std::vector<double> terms;
    for (size_t i = 0; i < sums_.size(); ++i) {
        const Sums& s = sums_[i];
        places.push_back(int64_t(chunks_[i].leaf));
        terms.insert(terms.end(), {s.grad, s.param, s.update});
        terms.insert(terms.end(), s.small, s.small + 3);
        terms.insert(terms.end(), s.large, s.large + 3);
    }
    const std::vector<double> t = ranks.combine(false, places, terms, 9);
    if (t.empty())
        return {};
    return {t[0], t[1], t[2], {t[3], t[4], t[5]}, {t[6], t[7], t[8]}};
}

void Plan::run_chunk(size_t i, Sums* sums) const {
    const Chunk& chunk = chunks_[i];
    if (!chunk.matrix)
        chunk.rule->run[int(chunk.dtype)](bound_[chunk.bound].fields, chunk.span, sums);
}

Sums Plan::move(const StepTerms& terms, bool stats, bool may_wait, const Over& over) {
    // Here memory may run out, and not once something has moved.
    sums_.assign(stats ? chunks_.size() : 0, Sums{});
    if (!matrices_.empty())
        matrices_.reserve(chunks_, stats);
    if (leaves_.two_passes()) {
        parts_.assign(chunks_.size(), Parts{});
        together_.assign(leaves_.shared_scalars().size(), Parts{});
        last_.assign(together_.size(), nullptr);
    }
    for (const bool squares : {false, true})
        if (leaves_.looks())
            look(terms, squares, over.sums);
    bind(terms, false);
    if (leaves_.two_passes())
        measure(terms, over.sums);
    if (!matrices_.empty()) {
        bind(terms, true);
        matrices_.prepare(elements_);
    }
    if (leaves_.two_passes())
        bind(terms, true);
    waiting_ = may_wait && !stats && matrices_.empty();
    if (!waiting_)
        run_chunks(chunks_.size(), elements_,
                   [&](size_t i) { run_chunk(i, stats ? &sums_[i] : nullptr); });
    if (!matrices_.empty())
        matrices_.update(elements_, chunks_, sums_);
    if (stats && over.norms)
        return total_over(*over.norms);
    Sums total = {};
    for (const Sums& part : sums_) {
        total.grad += part.grad;
        total.param += part.param;
        total.update += part.update;
        for (int k = 0; k < 3; ++k) {
            total.small[k] += part.small[k];
            total.large[k] += part.large[k];
        }
    }
    return total;
}

} // namespace stepsize
