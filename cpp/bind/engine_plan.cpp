// The engine's plan: one step's stretches of memory, their numbers, and their run.
#include <algorithm>
#include <limits>

#include "bind/engine.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The slot from element `at` on, the first of a tile.
Slot shifted(const Slot& slot, size_t at, size_t native) {
    Slot result = slot;
    result.data = static_cast<char*>(slot.data) + at * item_size(slot.storage, native);
    if (slot.scales)
        result.scales = slot.scales + at / tile;
    return result;
}

} // namespace

double* Engine::memory_of(Leaf& leaf) {
    return shared_ ? shared_memory_.data() : leaf.memory.data();
}

void Engine::rule_numbers(const Group& group, double* numbers) const {
    for (size_t i = 0; i < group.rule_numbers.size(); ++i)
        numbers[i] = group.values[size_t(group.rule_numbers[i])];
}

// The entry of the leaf's fields, shared by the leaves of a group that have had the same number of
// updates. Leaves with a gradient keep that in common from step to step.
size_t Engine::prepared_for(const Leaf& leaf) {
    Group& group = groups_[size_t(leaf.group)];
    int& known = group.prepared[int(leaf.dtype)];
    if (known >= 0 && leaves_[prepared_[size_t(known)].leaf].t == leaf.t &&
        (shared_ || !group.keeps_scalars()))
        return size_t(known);
    known = int(prepared_.size());
    prepared_.emplace_back();
    prepared_.back().leaf = size_t(&leaf - leaves_.data());
    return prepared_.size() - 1;
}

void Engine::cut(const Work& work) {
    const size_t width = item_size(work.dtype);
    const int slots = work.rule && !work.sheets ? work.rule->slots : 0;
    for (size_t at = 0; at < work.span.size; at += chunk_size) {
        work_.push_back(work);
        Span& span = work_.back().span;
        span.size = std::min(chunk_size, work.span.size - at);
        span.ahead = ahead_ && work.span.size >= chunk_size;
        if (work.span.x)
            span.x = static_cast<char*>(work.span.x) + at * width;
        if (work.span.average)
            span.average = static_cast<char*>(work.span.average) + at * width;
        if (work.span.half.data)
            span.half.data =
                static_cast<char*>(work.span.half.data) + at * item_size(span.half.dtype);
        span.g = static_cast<const char*>(work.span.g) + at * item_size(span.g_dtype);
        for (int k = 0; k < slots; ++k)
            span.slots[k] = shifted(work.span.slots[k], at, width);
        span.first = uint32_t(at / tile);
    }
}

// Whether this step moves all parameters, and all of them in the loop that could take averages
// along.
bool Engine::can_follow() const {
    bool all = share_ >= 0 && !numpy_ && !strided && !stacked_ && lent_.empty();
    for (const Leaf& leaf : leaves_)
        all = all && leaf.g && !leaf.sheets && !leaf.half.data;
    return all;
}

// The flat list of work: stretches of memory that run on from leaf to leaf are one span, unless the
// sums must be taken leaf by leaf. Stays as it is while the gradients stay where they are.
void Engine::lay_out(bool separate) {
    const bool following = can_follow();
    if (!moved_ && separate == separate_ && ahead_ == prefetches() && following == following_)
        return;
    moved_ = true;
    following_ = following;
    separate_ = separate;
    ahead_ = prefetches();
    work_.clear();
    prepared_.clear();
    seen_.clear();
    units_.clear();
    blocks_.clear();
    elements_ = 0;
    for (Group& group : groups_)
        std::fill_n(group.prepared, dtype_count, -1);
    Work open = {};
    const Leaf* last = nullptr;
    for (Leaf& leaf : leaves_) {
        if (!leaf.g || leaf.size == 0) {
            last = nullptr;
            continue;
        }
        const size_t prepared = prepared_for(leaf);
        if (leaf.sheets)
            lay_out_sheets(leaf, prepared);
        elements_ += leaf.size;
        for (size_t at = 0; at < leaf.size; at += chunk_size)
            blocks_.push_back({leaf.g + at * item_size(leaf.g_dtype),
                               std::min(chunk_size, leaf.size - at), leaf.g_dtype});
        const bool plain = leaf.g_dtype == leaf.dtype;
        if (last && leaf.adjacent && !separate && leaf.x == last->x + last->bytes() && plain &&
            prepared == open.prepared && leaf.g == last->g + last->bytes() &&
            open.span.g_dtype == leaf.g_dtype &&
            (!following || leaf.average == last->average + last->bytes())) {
            open.span.size += leaf.size;
        } else {
            cut(open);
            open.rule = groups_[size_t(leaf.group)].rule;
            open.leaf = size_t(&leaf - leaves_.data());
            open.dtype = leaf.dtype;
            open.sheets = leaf.sheets;
            open.prepared = prepared;
            open.span.x = leaf.x;
            open.span.g = leaf.g;
            open.span.g_dtype = leaf.g_dtype;
            open.span.half = leaf.half;
            open.span.average = following ? leaf.average : nullptr;
            open.span.size = leaf.size;
            std::copy(leaf.slots.begin(), leaf.slots.end(), open.span.slots);
            open.span.coded = leaf.coded || !plain;
            open.span.place = uint32_t(open.leaf);
        }
        last = &leaf;
    }
    cut(open);
    block_sums_.resize(blocks_.size());
    moved_ = false;
}

// Turns this step's numbers into the fields the loop reads.
void Engine::prepare(double scale) {
    for (Prepared& entry : prepared_) {
        Leaf& leaf = leaves_[entry.leaf];
        const Group& group = groups_[size_t(leaf.group)];
        double numbers[max_numbers];
        rule_numbers(group, numbers);
        const double decay = group.weight_decay < 0 ? 0 : group.values[size_t(group.weight_decay)];
        const double lr = group.values[size_t(group.lr)];
        const Prologue prologue = {scale,
                                   clip_value > 0 ? clip_value : infinity,
                                   group.decay == Group::Decay::coupled ? decay : 0,
                                   group.decay == Group::Decay::decoupled ? 1 - lr * decay : 1,
                                   group.cautious < 0 ? 0 : group.values[size_t(group.cautious)],
                                   share_};
        group.rule->prepare[int(leaf.dtype)](numbers, leaf.t + 1, memory_of(leaf), prologue,
                                             entry.fields);
    }
}

void Engine::run_part(size_t i, Sums* sums) const {
    const Work& work = work_[i];
    if (!work.sheets)
        work.rule->run[int(work.dtype)](prepared_[work.prepared].fields, work.span, sums);
}

void Engine::run(bool stats) {
    sums_.resize(stats ? work_.size() : 0);
    pending_ = stacked_ && !stats && !strided && seen_.empty();
    if (!pending_)
        spread(work_.size(), [&](size_t i) { run_part(i, stats ? &sums_[i] : nullptr); });
    if (!seen_.empty())
        advance_sheets(stats);
}

// The first pass: sums over each leaf, or over all, in the order of leaves and chunks.
void Engine::measure(double scale) {
    using Parts = std::array<double, max_sums + 1>;
    prepare(scale);
    std::vector<Parts> parts(work_.size());
    spread(work_.size(), [&](size_t i) {
        const Work& work = work_[i];
        if (!work.sheets)
            work.rule->measure[int(work.dtype)](prepared_[work.prepared].fields, work.span,
                                                parts[i].data());
    });
    Parts total = {};
    for (size_t i = 0; i < work_.size(); ++i) {
        const Work& work = work_[i];
        if (work.sheets)
            continue;
        const size_t sums = size_t(work.rule->sums);
        for (size_t k = 0; k < sums; ++k)
            total[k] += parts[i][k];
        total[sums] += double(work.span.size);
        const bool last = i + 1 == work_.size();
        if (!last && (shared_ || work_[i + 1].leaf == work.leaf))
            continue;
        Leaf& leaf = leaves_[work.leaf];
        double numbers[max_numbers];
        // What all leaves share is settled by the first group's numbers, whoever has a gradient.
        rule_numbers(groups_[shared_ ? 0 : size_t(leaf.group)], numbers);
        const int64_t t = shared_ ? step_count : leaf.t;
        work.rule->settle(numbers, t + 1, memory_of(leaf), total.data());
        total = {};
    }
}

} // namespace stepsize
