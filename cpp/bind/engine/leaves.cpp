#include "bind/engine/leaves.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "core/targets.hpp"

namespace stepsize {
namespace {

using Hyperparameters = std::vector<Hyperparameter>;

int find(const Hyperparameters& listed, const std::string& name) {
    for (size_t i = 0; i < listed.size(); ++i)
        if (listed[i].name == name)
            return int(i);
    return -1;
}

int require(const Hyperparameters& listed, const std::string& name) {
    const int index = find(listed, name);
    if (index < 0)
        throw std::invalid_argument("no hyperparameter is called '" + name + "'");
    return index;
}

Hyperparameter described(const py::tuple& entry) {
    Hyperparameter made;
    made.name = entry[0].cast<std::string>();
    made.low = entry[1].cast<double>();
    made.high = entry[2].cast<double>();
    made.low_open = entry[3].cast<bool>();
    made.high_open = entry[4].cast<bool>();
    made.set(entry[5]);
    return made;
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

// A slot in the parameter's dtype, or in codes and, for one-byte codes, scales.
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

// The state of a leaf seen as matrices: at most one array of its size, and arrays as long as its
// axes, or as its rows and columns.
std::vector<void*> vectors_of(const Leaf& leaf, const Rule& rule, const py::list& slots) {
    std::vector<size_t> sizes;
    if (rule.by_axis) {
        sizes.assign(leaf.shape.begin(), leaf.shape.end());
        sizes.insert(sizes.begin(), leaf.size);
    } else {
        size_t matrices = 1;
        for (size_t k = 0; k + 2 < leaf.shape.size(); ++k)
            matrices *= size_t(leaf.shape[k]);
        const size_t rows = size_t(leaf.shape[leaf.shape.size() - 2]);
        sizes = {matrices * rows, matrices * size_t(leaf.shape.back())};
    }
    if (leaf.shape.size() > max_axes || slots.size() != sizes.size())
        throw std::invalid_argument(std::string(rule.name) + ": wrong number of axes or arrays");
    std::vector<void*> vectors;
    for (size_t k = 0; k < sizes.size(); ++k) {
        const py::array array = slots[k].cast<py::tuple>()[0].cast<py::array>();
        if (!is_plain(array.ptr(), leaf.dtype) || size_t(array.size()) != sizes[k])
            throw std::invalid_argument(std::string(rule.name) +
                                        ": state of a wrong size or dtype");
        vectors.push_back(proxy(array.ptr())->data);
    }
    return vectors;
}

// A leaf without its group and its state.
Leaf parameters_of(const py::array& x, const py::object& master, const py::tuple& shape) {
    Leaf leaf = {};
    leaf.array = x;
    leaf.descr = py::reinterpret_borrow<py::object>(proxy(x.ptr())->descr);
    if (memory_owner(x.ptr()) != proxy(x.ptr()))
        leaf.kept.push_back(keep_in_place(x.ptr()));
    leaf.master = master;
    Dtype given = Dtype::float32;
    for (const Dtype dtype : {Dtype::float64, Dtype::float16, Dtype::bfloat16})
        given = has_dtype(x.ptr(), dtype) ? dtype : given;
    leaf.complex = is_complex(x.ptr());
    if (leaf.complex)
        given = x.itemsize() == 16 ? Dtype::float64 : Dtype::float32;
    leaf.dtype = given == Dtype::float64 ? Dtype::float64 : Dtype::float32;
    if (!is_plain(x.ptr(), leaf.complex ? leaf.type() : type_of(given)) || !x.writeable())
        throw std::invalid_argument("a parameter must be a writable, contiguous array of floats or "
                                    "complex numbers");
    leaf.x = proxy(x.ptr())->data;
    leaf.size = size_t(x.size()) * leaf.parts();
    for (py::handle length : shape)
        leaf.shape.push_back(length.cast<Py_ssize_t>());
    if (!is_narrow(given))
        return leaf;
    leaf.half = {leaf.x, given, nullptr, 0, false};
    leaf.x = nullptr;
    leaf.coded = true;
    if (master.is_none())
        return leaf;
    const py::array found = master.cast<py::array>();
    const bool low = found.dtype().kind() == 'i' && found.itemsize() <= 2;
    const bool plain = low ? given == Dtype::bfloat16 && found.flags() & py::array::c_style
                           : is_plain(found.ptr(), Dtype::float32);
    if (!plain || found.size() != x.size())
        throw std::invalid_argument("a master must be a float32 array of the parameter's size, or "
                                    "the lower bits of such as int16 or int8 for bfloat16");
    char* const data = proxy(found.ptr())->data;
    leaf.half.low_bytes = low ? size_t(found.itemsize()) : 0;
    leaf.half.low = low ? data : nullptr;
    leaf.x = low ? nullptr : data;
    leaf.kept.push_back(keep_in_place(found.ptr()));
    return leaf;
}

bool follows(const Leaf& leaf, const Leaf& last, const Rule* rule) {
    bool adjacent = leaf.group == last.group && leaf.dtype == last.dtype && !leaf.matrix &&
                    !last.matrix && !leaf.coded && !last.coded && leaf.x == last.x + last.bytes() &&
                    alike(leaf.bounds, last.bounds, leaf.dtype);
    for (size_t k = 0; rule && k < size_t(rule->slots); ++k)
        adjacent &= leaf.slots[k].data == static_cast<char*>(last.slots[k].data) + last.bytes();
    return adjacent;
}

} // namespace

double loss_value(const Host& host, py::handle loss) {
    if (PyNumber_Check(loss.ptr()) && !is_complex_number(loss) && !is_truth(loss)) {
        const double value = PyFloat_AsDouble(loss.ptr());
        if (value != -1 || !PyErr_Occurred())
            return value;
        if (!PyErr_ExceptionMatches(PyExc_TypeError) &&
            !PyErr_ExceptionMatches(PyExc_OverflowError))
            throw py::error_already_set();
        PyErr_Clear();
    }
    host.fail("number", "loss", loss);
}

const Rule* find_rule(const std::string& name) {
    const Table& chosen = table();
    for (int i = 0; i < chosen.rule_count; ++i)
        if (name == chosen.rules[i].name)
            return &chosen.rules[i];
    throw std::invalid_argument("no compiled rule is called '" + name + "'");
}

void Leaves::add_group(const py::object& kernel, const std::string& decay, double cautious,
                       int squares, const std::vector<double>& scalars, const std::string& scope,
                       int part, const py::list& hyperparameters) {
    if (scalars.size() > max_scalars)
        throw std::invalid_argument("too many scalars for one leaf");
    Group group = {};
    if (!kernel.is_none()) {
        const std::string name = kernel.cast<std::string>();
        group.whole = find_whole(name);
        group.rule = group.whole ? &group.whole->rule : find_rule(name);
    }
    group.scalars = scalars;
    if (scope == "all")
        group.shared = share(part, scalars);
    group.decay = decay_of(decay);
    for (py::handle item : hyperparameters)
        group.hyperparameters.push_back(described(item.cast<py::tuple>()));
    group.values.resize(group.hyperparameters.size());
    group.lr = require(group.hyperparameters, "lr");
    group.weight_decay = find(group.hyperparameters, "weight_decay");
    group.cautious = cautious;
    group.decay_max_lr = find(group.hyperparameters, "decay_max_lr");
    if (group.decay == Group::Decay::decoupled && (int(cautious) & 2 || group.decay_max_lr >= 0))
        group.decay = Group::Decay::apart;
    group.mars_gamma = find(group.hyperparameters, "mars_gamma");
    group.update_clip = find(group.hyperparameters, "update_clip");
    group.beta1 = find(group.hyperparameters, "beta1");
    group.beta2 = find(group.hyperparameters, "beta2");
    group.eps = find(group.hyperparameters, "eps");
    group.squares = squares;
    looks_ = looks_ || group.looks();
    group.loss = find(group.hyperparameters, "loss");
    group.flatten = find(group.hyperparameters, "flatten");
    group.stacked = find(group.hyperparameters, "stacked");
    two_passes_ = two_passes_ || (group.rule && group.rule->sums > 0);
    reference_ = reference_ || !group.rule;
    if (group.rule) {
        std::stringstream names(group.rule->numbers);
        for (std::string name; names >> name;) {
            if (name.back() == ',')
                name.pop_back();
            group.rule_numbers.push_back(require(group.hyperparameters, name));
        }
    }
    groups_.push_back(group);
}

// The index of what the groups of a part share; the next group is one of them.
int Leaves::share(int part, const std::vector<double>& scalars) {
    for (size_t k = 0; k < shared_.size(); ++k)
        if (shared_[k].part == part)
            return int(k);
    SharedScalars made = {part, int(groups_.size()), {}};
    std::copy(scalars.begin(), scalars.end(), made.values.begin());
    shared_.push_back(made);
    return int(shared_.size()) - 1;
}

void Leaves::add(const py::array& x, const py::object& master, const py::tuple& shape, int group,
                 const py::list& slots) {
    Leaf leaf = parameters_of(x, master, shape);
    leaf.group = group;
    const Group& owner = groups_.at(size_t(group));
    leaf.whole = owner.whole;
    leaf.matrix = leaf.whole || (owner.rule && owner.rule->update[0] && leaf.shape.size() > 1);
    if (leaf.matrix && leaf.complex)
        throw std::invalid_argument(std::string(owner.rule->name) + ": no complex matrices");
    const int more = owner.mars_gamma >= 0;
    if (owner.rule && !leaf.matrix && int(slots.size()) != owner.rule->slots + more)
        throw std::invalid_argument(std::string(owner.rule->name) +
                                    ": wrong number of state arrays");
    for (size_t k = 0; k < slots.size(); ++k) {
        const py::tuple pair = slots[k].cast<py::tuple>();
        leaf.kept.push_back(pair);
        for (py::handle array : pair)
            if (is_array(array.ptr()))
                leaf.kept.push_back(keep_in_place(array.ptr()));
        if (!owner.rule || leaf.matrix)
            continue; // the state of reference rules and of matrices has other shapes
        Slot& slot = leaf.slots[k];
        slot = slot_of(pair[0].cast<py::array>(), pair[1], leaf.dtype, leaf.size);
        leaf.coded = leaf.coded || slot.storage != Storage::native;
    }
    if (leaf.whole)
        take_arrays(leaf, owner, slots);
    else if (leaf.matrix)
        leaf.vectors = vectors_of(leaf, *owner.rule, slots);
    std::copy(owner.scalars.begin(), owner.scalars.end(), leaf.scalars.begin());
    leaves_.push_back(leaf);
}

void Leaves::round_stochastically() {
    Half& half = leaves_.back().half;
    if (!half.data || leaves_.back().x || half.low)
        throw std::invalid_argument("only half precision without master weights is rounded so");
    half.stochastic = true;
}

void Leaves::keep_base(const py::array& x) {
    leaves_.back().kept.push_back(keep_in_place(x.ptr()));
}

void Leaves::add_state(Occupied& occupied) const {
    const auto add = [&](py::handle object) {
        if (is_array(object.ptr()))
            occupied.add(proxy(object.ptr())->data,
                         size_t(py::reinterpret_borrow<py::array>(object).nbytes()));
    };
    for (const Leaf& leaf : leaves_) {
        add(leaf.master);
        for (const py::object& kept : leaf.kept)
            if (PyTuple_Check(kept.ptr()))
                for (py::handle array : kept)
                    add(array);
    }
}

void Leaves::finish() {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        Leaf& leaf = leaves_[i];
        occupied_.add(leaf.seen(), leaf.bytes());
        leaf.adjacent = i > 0 && follows(leaf, leaves_[i - 1], group_of(leaf).rule);
        ArrayProxy* owner = memory_owner(leaf.array.ptr());
        if (owners_.empty() || owners_.back() != owner)
            owners_.push_back(owner);
    }
    add_state(occupied_);
    occupied_.sort();
}

void Leaves::check(const Host& host) const {
    for (const Leaf& leaf : leaves_)
        check(host, leaf);
}

void Leaves::check(const Host& host, const Leaf& leaf) const {
    constexpr int needed = contiguous_flag | aligned_flag | writeable_flag;
    const ArrayProxy* array = proxy(leaf.array.ptr());
    if (array->data != leaf.seen() || (array->flags & needed) != needed ||
        !has_shape(array, leaf.shape) ||
        (array->descr != leaf.descr.ptr() && !has_type(leaf.array.ptr(), leaf.type_seen())))
        host.fail("parameter", index(leaf));
}

void Leaves::evaluate(Group& group, const Host& host, py::handle loss, int64_t step,
                      double lr_scale) {
    const auto set = [&](int i) {
        const Hyperparameter& from = group.hyperparameters[size_t(i)];
        double value = i == group.loss ? loss_value(host, loss) : from.at(step);
        if (i == group.lr)
            value *= lr_scale;
        if (!from.holds(value))
            host.fail("number", from.name, value);
        group.values[size_t(i)] = value;
    };
    if (group.settled) {
        for (const int i : group.changing)
            set(i);
        return;
    }
    group.changing.clear();
    bool functions = false; // which may set numbers: then all are read in every step
    for (int i = 0; i < int(group.hyperparameters.size()); ++i) {
        const Hyperparameter& from = group.hyperparameters[size_t(i)];
        functions = functions || from.function;
        if (i == group.lr || i == group.loss || !from.constant()) {
            group.changing.push_back(i);
            set(i);
        } else {
            group.values[size_t(i)] = from.value; // checked when it was set
        }
    }
    group.settled = !functions;
    group.steady = group.settled && group.changing.size() == 1 &&
                   group.hyperparameters[size_t(group.lr)].constant();
}

void Leaves::evaluate(const Host& host, py::handle loss, int64_t step, double lr_scale) {
    for (Group& group : groups_) {
        const Hyperparameter& lr = group.hyperparameters[size_t(group.lr)];
        const double rate = lr.value * lr_scale;
        if (group.steady && lr.holds(rate))
            group.values[size_t(group.lr)] = rate;
        else
            evaluate(group, host, loss, step, lr_scale);
    }
}

void Leaves::set_number(int group, const std::string& name, const py::object& source) {
    Group& owner = groups_.at(size_t(group));
    owner.hyperparameters[size_t(require(owner.hyperparameters, name))].set(source);
    owner.settled = owner.steady = false;
}

double Leaves::number(int group, const std::string& name, int64_t step, double lr_scale) const {
    const Group& owner = groups_.at(size_t(group));
    const int index = require(owner.hyperparameters, name);
    const double value = owner.hyperparameters[size_t(index)].at(step);
    return index == owner.lr ? value * lr_scale : value;
}

py::dict Leaves::values(int group) const {
    const Group& owner = groups_.at(size_t(group));
    py::dict result;
    for (size_t i = 0; i < owner.hyperparameters.size(); ++i)
        result[py::str(owner.hyperparameters[i].name)] = owner.values[i];
    return result;
}

int Leaves::visit_functions(visitproc visit, void* arg) const {
    for (const Group& group : groups_)
        for (const Hyperparameter& from : group.hyperparameters)
            Py_VISIT(from.function.ptr());
    return 0;
}

void Leaves::drop_functions() {
    for (Group& group : groups_)
        for (Hyperparameter& from : group.hyperparameters)
            from.drop_function();
}

} // namespace stepsize
