// The engine's plan: one step's stretches of memory, their numbers, and their run.
#include <algorithm>
#include <limits>

#include "bind/engine.hpp"
#include "core/driver.hpp"

namespace stepsize {
namespace {

// Below this many elements the step is over before another thread could use the interpreter.
constexpr size_t release_elements = 8192;

constexpr double infinity = std::numeric_limits<double>::infinity();

} // namespace

// The fields of the leaf's rule for this step, shared by the leaves of a group that have had the
// same number of updates.
const void* Engine::prepared_for(Leaf& leaf, double scale) {
    Group& group = groups_[size_t(leaf.group)];
    auto& known = group.prepared[int(leaf.dtype)];
    if (known.index >= 0 && known.t == leaf.t && group.memory == 0)
        return prepared_[size_t(known.index)].data();
    double numbers[max_numbers];
    for (size_t i = 0; i < group.rule_numbers.size(); ++i)
        numbers[i] = group.values[size_t(group.rule_numbers[i])];
    const double decay = group.weight_decay < 0 ? 0 : group.values[size_t(group.weight_decay)];
    const Prologue prologue = {
        scale, clip_value > 0 ? clip_value : infinity,
        group.decay == Group::Decay::coupled ? decay : 0,
        group.decay == Group::Decay::decoupled ? 1 - group.values[size_t(group.lr)] * decay : 1};
    known.t = leaf.t;
    known.index = int(prepared_.size());
    prepared_.emplace_back();
    group.rule->prepare[int(leaf.dtype)](numbers, leaf.t + 1, leaf.memory.data(), prologue,
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
    Work open = {};
    const Leaf* last = nullptr;
    for (Leaf& leaf : leaves_) {
        if (!leaf.g || leaf.size == 0) {
            last = nullptr;
            continue;
        }
        const void* prepared = prepared_for(leaf, scale);
        elements_ += leaf.size;
        if (last && leaf.adjacent && !separate && prepared == open.prepared &&
            leaf.g == last->g + last->bytes()) {
            open.span.size += leaf.size;
        } else {
            cut(open);
            open.rule = groups_[size_t(leaf.group)].rule;
            open.dtype = leaf.dtype;
            open.prepared = prepared;
            open.span.x = leaf.x;
            open.span.g = leaf.g;
            open.span.size = leaf.size;
            for (int k = 0; k < open.rule->slots; ++k)
                open.span.slots[k] = leaf.slots[size_t(k)];
        }
        last = &leaf;
    }
    cut(open);
}

void Engine::run(std::vector<Sums>* sums) {
    const auto job = [&](size_t i) {
        const Work& work = work_[i];
        work.rule->run[int(work.dtype)](work.prepared, work.span, sums ? &(*sums)[i] : nullptr);
    };
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

} // namespace stepsize
