#include "bind/engine.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "bind/turn.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

int find(const std::vector<Number>& numbers, const std::string& name) {
    for (size_t i = 0; i < numbers.size(); ++i)
        if (numbers[i].name == name)
            return int(i);
    return -1;
}

int require(const std::vector<Number>& numbers, const std::string& name) {
    const int index = find(numbers, name);
    if (index < 0)
        throw std::invalid_argument("no hyperparameter is called '" + name + "'");
    return index;
}

Group::Decay decay_of(const std::string& name) {
    if (name == "coupled")
        return Group::Decay::coupled;
    if (name == "decoupled")
        return Group::Decay::decoupled;
    return Group::Decay::none;
}

Storage storage_of(const py::array& codes) {
    const char kind = codes.dtype().kind();
    if (kind == 'u' && codes.itemsize() == 2)
        return Storage::bfloat16;
    if (codes.itemsize() == 1)
        return kind == 'i' ? Storage::signed8 : Storage::unsigned8;
    return Storage::native;
}

// A slot of numbers of the parameter's dtype, or of codes and, for those of one byte, scales.
Slot slot_of(const py::array& codes, const py::object& scales, Dtype dtype, size_t size) {
    Slot slot = {proxy(codes.ptr())->data, nullptr, storage_of(codes)};
    const bool plain = slot.storage == Storage::native
                           ? is_plain(codes.ptr(), dtype)
                           : (proxy(codes.ptr())->flags & contiguous_flag) != 0;
    if (!plain || size_t(codes.size()) != size)
        throw std::invalid_argument("state must have the size of its parameter, and its dtype or "
                                    "that of codes");
    if (slot.storage == Storage::signed8 || slot.storage == Storage::unsigned8) {
        const py::array found = scales.cast<py::array>();
        if (!is_plain(found.ptr(), Dtype::float32) ||
            size_t(found.size()) != (size + tile - 1) / tile)
            throw std::invalid_argument("codes of one byte need a float32 scale for every tile");
        slot.scales = reinterpret_cast<float*>(proxy(found.ptr())->data);
    }
    return slot;
}

} // namespace

const Rule* find_rule(const std::string& name) {
    const Table& chosen = table();
    for (int i = 0; i < chosen.rule_count; ++i)
        if (name == chosen.rules[i].name)
            return &chosen.rules[i];
    throw std::invalid_argument("no compiled rule is called '" + name + "'");
}

void Engine::add_group(const py::object& kernel, const std::string& decay,
                       const std::vector<double>& memory, const std::string& scope,
                       const py::list& numbers) {
    if (memory.size() > max_scalars)
        throw std::invalid_argument("too many scalars for one leaf");
    Group group = {};
    group.rule = kernel.is_none() ? nullptr : find_rule(kernel.cast<std::string>());
    group.memory = memory;
    shared_ = scope == "all";
    if (shared_)
        std::copy(memory.begin(), memory.end(), shared_memory_.begin());
    group.decay = decay_of(decay);
    for (py::handle item : numbers) {
        const py::tuple entry = item.cast<py::tuple>();
        Number number;
        number.name = entry[0].cast<std::string>();
        number.low = entry[1].cast<double>();
        number.high = entry[2].cast<double>();
        number.low_open = entry[3].cast<bool>();
        number.high_open = entry[4].cast<bool>();
        number.set(entry[5]);
        group.numbers.push_back(number);
    }
    group.values.resize(group.numbers.size());
    group.lr = require(group.numbers, "lr");
    group.weight_decay = find(group.numbers, "weight_decay");
    group.cautious = find(group.numbers, "cautious");
    group.loss = find(group.numbers, "loss");
    two_passes_ = two_passes_ || (group.rule && group.rule->sums > 0);
    numpy_ = numpy_ || !group.rule;
    if (group.rule) {
        std::stringstream names(group.rule->numbers);
        for (std::string name; names >> name;) {
            if (name.back() == ',')
                name.pop_back();
            group.rule_numbers.push_back(require(group.numbers, name));
        }
    }
    groups_.push_back(group);
}

void Engine::add_leaf(const py::array& x, const py::object& master, const py::tuple& shape,
                      int group, const py::list& slots) {
    Leaf leaf = {};
    leaf.array = x;
    leaf.master = master;
    Dtype given = Dtype::float32;
    for (const Dtype dtype : {Dtype::float64, Dtype::float16, Dtype::bfloat16})
        given = has_dtype(x.ptr(), dtype) ? dtype : given;
    if (!is_plain(x.ptr(), given) || !x.writeable())
        throw std::invalid_argument("a parameter must be a writable, contiguous float array");
    leaf.dtype = given == Dtype::float64 ? Dtype::float64 : Dtype::float32;
    leaf.g_dtype = leaf.dtype;
    leaf.x = proxy(x.ptr())->data;
    if (is_narrow(given)) {
        leaf.half = {leaf.x, given};
        leaf.x = nullptr;
        if (!master.is_none() &&
            (!is_plain(master.ptr(), Dtype::float32) || py::array(master).size() != x.size()))
            throw std::invalid_argument("a master must be a float32 array of the parameter's size");
        if (!master.is_none())
            leaf.x = proxy(master.ptr())->data;
        leaf.coded = true;
    }
    leaf.size = size_t(x.size());
    for (py::handle length : shape)
        leaf.shape.push_back(length.cast<Py_ssize_t>());
    leaf.group = group;
    const Group& owner = groups_.at(size_t(group));
    leaf.sheets = owner.rule && owner.rule->update[0] && leaf.shape.size() > 1;
    if (owner.rule && !leaf.sheets && int(slots.size()) != owner.rule->slots)
        throw std::invalid_argument(std::string(owner.rule->name) +
                                    ": wrong number of state arrays");
    for (py::handle item : slots) {
        const py::tuple pair = item.cast<py::tuple>();
        leaf.slot_arrays.push_back(pair);
        if (!owner.rule || leaf.sheets)
            continue; // the state of NumPy's rules and of matrices has shapes of its own
        Slot& slot = leaf.slots[leaf.slot_arrays.size() - 1];
        slot = slot_of(pair[0].cast<py::array>(), pair[1], leaf.dtype, leaf.size);
        leaf.coded = leaf.coded || slot.storage != Storage::native;
    }
    if (leaf.sheets)
        add_vectors(leaf, slots);
    std::copy(owner.memory.begin(), owner.memory.end(), leaf.memory.begin());
    leaves_.push_back(leaf);
}

void Engine::finish() {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        Leaf& leaf = leaves_[i];
        intervals_.push_back({leaf.seen(), leaf.seen() + leaf.bytes()});
        if (i == 0)
            continue;
        const Leaf& last = leaves_[i - 1];
        leaf.adjacent = leaf.group == last.group && leaf.dtype == last.dtype && !leaf.sheets &&
                        !last.sheets && !leaf.coded && !last.coded &&
                        leaf.x == last.x + last.bytes();
        const Rule* rule = groups_[size_t(leaf.group)].rule;
        for (size_t k = 0; rule && k < size_t(rule->slots); ++k)
            leaf.adjacent =
                leaf.adjacent &&
                leaf.slots[k].data == static_cast<char*>(last.slots[k].data) + last.bytes();
    }
    std::sort(intervals_.begin(), intervals_.end(),
              [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
    found_.resize(leaves_.size());
}

void Engine::set_number(int group, const std::string& name, const py::object& source) {
    const Turn turn(mutex_);
    std::vector<Number>& numbers = groups_.at(size_t(group)).numbers;
    numbers[size_t(require(numbers, name))].set(source);
}

double Engine::number(int group, const std::string& name) const {
    const Group& owner = groups_.at(size_t(group));
    const int index = require(owner.numbers, name);
    const double value = owner.numbers[size_t(index)].at(step_count);
    return index == owner.lr ? value * lr_scale : value;
}

py::dict Engine::values(int group) const {
    const Group& owner = groups_.at(size_t(group));
    py::dict result;
    for (size_t i = 0; i < owner.numbers.size(); ++i)
        result[py::str(owner.numbers[i].name)] = owner.values[i];
    return result;
}

void Engine::follow(const py::list& averages, double share) {
    const Turn turn(mutex_);
    share_ = share;
    if (averages.is(averages_))
        return;
    if (averages.size() != leaves_.size())
        throw std::invalid_argument("there must be one average for each leaf");
    for (size_t i = 0; i < leaves_.size(); ++i) {
        const py::array average = averages[i].cast<py::array>();
        if (!is_plain(average.ptr(), leaves_[i].dtype) || !average.writeable() ||
            size_t(average.size()) != leaves_[i].size)
            throw std::invalid_argument("an average must be a writable array as its leaf");
        leaves_[i].average = proxy(average.ptr())->data;
    }
    averages_ = averages;
    moved_ = true;
}

std::vector<int64_t> Engine::times() const {
    std::vector<int64_t> result;
    for (const Leaf& leaf : leaves_)
        result.push_back(leaf.t);
    return result;
}

void Engine::set_times(const std::vector<int64_t>& times) {
    for (size_t i = 0; i < leaves_.size(); ++i)
        leaves_[i].t = times.at(i);
    moved_ = true; // leaves may share their numbers otherwise now
}

std::vector<double> Engine::memory(size_t leaf) {
    Leaf& from = leaves_.at(leaf);
    const double* values = memory_of(from);
    return {values, values + groups_[size_t(from.group)].memory.size()};
}

void Engine::set_memory(size_t leaf, const std::vector<double>& values) {
    Leaf& to = leaves_.at(leaf);
    if (values.size() != groups_[size_t(to.group)].memory.size())
        throw std::invalid_argument("wrong number of scalars for one leaf");
    std::copy(values.begin(), values.end(), memory_of(to));
}

} // namespace stepsize
