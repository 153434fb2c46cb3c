// The engine's plan: one step's stretches of memory, their numbers, and their run.
#include <algorithm>
#include <limits>

#include "bind/engine.hpp"
#include "core/driver.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// Below this many elements the step is over before another thread could use the interpreter.
constexpr size_t release_elements = 8192;

constexpr double infinity = std::numeric_limits<double>::infinity();

} // namespace

void Engine::rule_numbers(const Group& group, double* numbers) const {
    for (size_t i = 0; i < group.rule_numbers.size(); ++i)
        numbers[i] = group.values[size_t(group.rule_numbers[i])];
}

// The fields of the leaf's rule for this step, shared by the leaves of a group that have had the
// same number of updates.
const void* Engine::prepared_for(Leaf& leaf, double scale) {
    Group& group = groups_[size_t(leaf.group)];
    auto& known = group.prepared[int(leaf.dtype)];
    if (known.index >= 0 && known.t == leaf.t && (shared_ || group.memory.empty()))
        return prepared_[size_t(known.index)].data();
    double numbers[max_numbers];
    rule_numbers(group, numbers);
    const double decay = group.weight_decay < 0 ? 0 : group.values[size_t(group.weight_decay)];
    const Prologue prologue = {
        scale, clip_value > 0 ? clip_value : infinity,
        group.decay == Group::Decay::coupled ? decay : 0,
        group.decay == Group::Decay::decoupled ? 1 - group.values[size_t(group.lr)] * decay : 1,
        group.cautious < 0 ? 0 : group.values[size_t(group.cautious)]};
    known.t = leaf.t;
    known.index = int(prepared_.size());
    prepared_.emplace_back();
    group.rule->prepare[int(leaf.dtype)](numbers, leaf.t + 1, memory_of(leaf), prologue,
                                         prepared_.back().data());
    return prepared_.back().data();
}

void Engine::cut(const Work& work) {
    const size_t width = item_size(work.dtype);
    for (size_t at = 0; at < work.span.size; at += chunk_size) {
        Work chunk = work;
        chunk.span.size = std::min(chunk_size, work.span.size - at);
        chunk.span.x = static_cast<char*>(work.span.x) + at * width;
        chunk.span.g = static_cast<const char*>(work.span.g) + at * width;
        for (int k = 0; k < work.rule->slots; ++k)
            chunk.span.slots[k] = static_cast<char*>(work.span.slots[k]) + at * width;
        work_.push_back(chunk);
    }
}

// The flat list of work: stretches of memory that run on from leaf to leaf are one span, unless the
// sums must be taken leaf by leaf.
void Engine::plan(double scale, bool separate) {
    work_.clear();
    prepared_.clear();
    elements_ = 0;
    for (Group& group : groups_)
        for (auto& known : group.prepared)
            known.index = -1;
    Work open = {};
    const Leaf* last = nullptr;
    for (Leaf& leaf : leaves_) {
        if (!leaf.g || leaf.size == 0) {
            last = nullptr;
            continue;
        }
        const void* prepared = prepared_for(leaf, scale);
        elements_ += leaf.size;
        if (last && leaf.adjacent && !separate && leaf.x == last->x + last->bytes() &&
            prepared == open.prepared && leaf.g == last->g + last->bytes()) {
            open.span.size += leaf.size;
        } else {
            cut(open);
            open.rule = groups_[size_t(leaf.group)].rule;
            open.leaf = size_t(&leaf - leaves_.data());
            open.dtype = leaf.dtype;
            open.prepared = prepared;
            open.span.x = leaf.x;
            open.span.g = leaf.g;
            open.span.size = leaf.size;
            open.span.ahead = leaf.size >= chunk_size && prefetches();
            for (int k = 0; k < open.rule->slots; ++k)
                open.span.slots[k] = leaf.slots[size_t(k)];
        }
        last = &leaf;
    }
    cut(open);
}

template <class Job> void Engine::spread(const Job& job) {
    if (elements_ < release_elements) {
        for (size_t i = 0; i < work_.size(); ++i)
            job(i);
        return;
    }
    std::vector<py::object> held; // another thread may empty the nest meanwhile
    for (const Leaf& leaf : leaves_)
        if (leaf.g)
            held.push_back(py::reinterpret_borrow<py::object>(leaf.gradient));
    py::gil_scoped_release release;
    share(work_.size(), elements_, job);
}

void Engine::run(std::vector<Sums>* sums) {
    spread([&](size_t i) {
        const Work& work = work_[i];
        work.rule->run[int(work.dtype)](work.prepared, work.span, sums ? &(*sums)[i] : nullptr);
    });
}

// The first pass: sums over each leaf, or over all, in the order of leaves and chunks.
void Engine::measure(double scale) {
    using Parts = std::array<double, max_sums>;
    plan(scale, true);
    std::vector<Parts> parts(work_.size());
    spread([&](size_t i) {
        const Work& work = work_[i];
        work.rule->measure[int(work.dtype)](work.prepared, work.span, parts[i].data());
    });
    Parts total = {};
    for (size_t i = 0; i < work_.size(); ++i) {
        const Work& work = work_[i];
        for (size_t k = 0; k < max_sums; ++k)
            total[k] += k < size_t(work.rule->sums) ? parts[i][k] : 0;
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
