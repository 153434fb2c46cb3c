#include "bind/engine/wholes.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "bind/chunks.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// Below this the products of one leaf are too short to be shared: matrices of about 400 x 400.
constexpr size_t large_work = size_t(1) << 22;
// Bytes of scratch memory that each thread may have for leaves of its own.
constexpr size_t most_scratch = size_t(4) << 20;

using Job = void (*)(void*, size_t);

void alone(size_t count, size_t, Job job, void* context) {
    for (size_t i = 0; i < count; ++i)
        job(context, i);
}

void together(size_t count, size_t work, Job job, void* context) {
    parallel_for(count, work, job, context);
}

} // namespace

void take_arrays(Leaf& leaf, const Group& group, const py::list& slots) {
    const WholeRule& rule = *group.whole;
    if (slots.size() > max_whole_slots)
        throw std::invalid_argument(std::string(rule.rule.name) + ": too many state arrays");
    if (group.stacked >= 0)
        leaf.block_axes = size_t(group.hyperparameters[size_t(group.stacked)].value);
    if (leaf.block_axes > leaf.shape.size())
        throw std::invalid_argument(std::string(rule.rule.name) + ": more axes stacked than there");
    for (size_t k = 0; k < leaf.block_axes; ++k)
        leaf.blocks *= size_t(leaf.shape[k]);
    for (const py::handle slot : slots) {
        const py::array array = slot.cast<py::tuple>()[0].cast<py::array>();
        if (!is_plain(array.ptr(), leaf.dtype))
            throw std::invalid_argument(std::string(rule.rule.name) + ": state of a wrong dtype");
        leaf.vectors.push_back(proxy(array.ptr())->data);
        leaf.block_bytes.push_back(leaf.blocks ? size_t(array.nbytes()) / leaf.blocks : 0);
    }
}

const WholeRule* find_whole(const std::string& name) {
    const WholeTable& known = whole_table();
    for (int i = 0; i < known.rule_count; ++i)
        if (name == known.rules[i].rule.name)
            return &known.rules[i];
    return nullptr;
}

void WholePlan::clear() {
    wholes_.clear();
    small_.clear();
    large_.clear();
    small_work_ = bytes_ = hands_ = 0;
}

void WholePlan::add(const Leaf& leaf, const void* gradient, size_t bound) {
    const Group& group = leaves_.group_of(leaf);
    WholeLeaf whole = {};
    whole.leaf = leaves_.index(leaf);
    whole.bound = bound;
    WholeView& view = whole.view;
    view.size = leaf.size / leaf.blocks;
    // Rules read the first few lengths, and whether there are more.
    const auto first = leaf.shape.begin() + Py_ssize_t(leaf.block_axes);
    view.axes = int(std::min<size_t>(size_t(leaf.shape.end() - first), max_axes));
    std::copy_n(first, view.axes, view.lengths);
    if (view.axes > 2 && group.value(group.flatten) > 0) {
        view.axes = 2;
        view.lengths[1] = view.size / view.lengths[0];
    }
    view.slot_count = int(leaf.vectors.size());
    for (size_t i = 0; i < leaf.vectors.size(); ++i)
        view.slot_sizes[i] = leaf.block_bytes[i] / item_size(leaf.dtype);
    double numbers[max_numbers];
    group.numbers(numbers);
    whole.bytes = (leaf.whole->scratch[int(leaf.dtype)](numbers, view) + 63) / 64 * 64;
    // Products cost about as much as so many elements of other rules.
    whole.work = size_t(double(view.size) * std::sqrt(double(view.size)) / 16);
    const bool light = whole.work < large_work && whole.bytes <= most_scratch;
    for (size_t k = 0; k < leaf.blocks; ++k) {
        const size_t at = k * view.size * item_size(leaf.dtype);
        view.x = leaf.x + at;
        view.g = static_cast<const char*>(gradient) + at;
        for (size_t i = 0; i < leaf.vectors.size(); ++i)
            view.slots[i] = static_cast<char*>(leaf.vectors[i]) + k * leaf.block_bytes[i];
        (light ? small_ : large_).push_back(wholes_.size());
        wholes_.push_back(whole);
    }
}

void WholePlan::finish() {
    const size_t many = 2 * size_t(thread_count());
    if (small_.size() < many) { // each would be the last one, on one thread
        large_.insert(large_.end(), small_.begin(), small_.end());
        small_.clear();
    }
    hands_ = std::min(small_.size(), 2 * many);
    for (const size_t i : small_) {
        bytes_ = std::max(bytes_, wholes_[i].bytes);
        small_work_ += wholes_[i].work;
    }
    size_t needed = hands_ * bytes_;
    for (const size_t i : large_)
        needed = std::max(needed, wholes_[i].bytes);
    if (needed <= held_)
        return;
    memory_.reset();
    held_ = 0;
    memory_.reset(static_cast<char*>(::operator new[](needed, std::align_val_t(64))));
    held_ = needed;
}

void WholePlan::run(WholeLeaf& whole, char* scratch, bool shared) {
    Leaf& leaf = leaves_[whole.leaf];
    double numbers[max_numbers];
    leaves_.group_of(leaf).numbers(numbers);
    whole.view.scratch = scratch;
    whole.view.share = shared ? together : alone;
    leaf.whole->run[int(leaf.dtype)](numbers, leaf.t + 1, leaves_.scalars_of(leaf),
                                     bound_[whole.bound].prologue, whole.view);
}

void WholePlan::update() {
    if (empty())
        return;
    const InterpreterReleased released;
    parallel_for(hands_, small_work_, [&](size_t hand) {
        for (size_t i = hand; i < small_.size(); i += hands_)
            run(wholes_[small_[i]], memory_.get() + hand * bytes_, false);
    });
    for (const size_t i : large_)
        run(wholes_[i], memory_.get(), true);
}

} // namespace stepsize
