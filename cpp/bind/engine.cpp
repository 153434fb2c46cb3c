#include "bind/engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "core/targets.hpp"

namespace stepsize {
namespace {

// Holds the engine's lock, waiting for it without the interpreter's, so that two threads that step
// one optimizer take turns.
class Turn {
  public:
    explicit Turn(std::recursive_mutex& mutex) : mutex_(mutex) {
        if (!mutex_.try_lock()) {
            py::gil_scoped_release release;
            mutex_.lock();
        }
    }
    ~Turn() { mutex_.unlock(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    std::recursive_mutex& mutex_;
};

// Lets go of the gradients that Python prepared, however the step ends.
struct Release {
    py::object& held;
    ~Release() { held = py::object(); }
};

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

const Rule* find_rule(const std::string& name) {
    const Table& chosen = table();
    for (int i = 0; i < chosen.rule_count; ++i)
        if (name == chosen.rules[i].name)
            return &chosen.rules[i];
    throw std::invalid_argument("no compiled rule is called '" + name + "'");
}

Group::Decay decay_of(const std::string& name) {
    if (name == "coupled")
        return Group::Decay::coupled;
    if (name == "decoupled")
        return Group::Decay::decoupled;
    return Group::Decay::none;
}

} // namespace

void Engine::add_group(const py::object& kernel, const std::string& decay,
                       const std::vector<double>& memory, const std::string& scope,
                       const py::list& numbers) {
    if (memory.size() > max_memory)
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

void Engine::add_leaf(const py::array& x, const py::tuple& shape, int group,
                      const py::list& slots) {
    Leaf leaf = {};
    leaf.array = x;
    leaf.dtype = is_plain(x.ptr(), Dtype::float32) ? Dtype::float32 : Dtype::float64;
    if (!is_plain(x.ptr(), leaf.dtype) || !x.writeable())
        throw std::invalid_argument("a parameter must be a writable, contiguous float array");
    leaf.x = proxy(x.ptr())->data;
    leaf.size = size_t(x.size());
    for (py::handle length : shape)
        leaf.shape.push_back(length.cast<Py_ssize_t>());
    leaf.group = group;
    const Group& owner = groups_.at(size_t(group));
    if (owner.rule && int(slots.size()) != owner.rule->slots)
        throw std::invalid_argument(std::string(owner.rule->name) +
                                    ": wrong number of state arrays");
    for (py::handle item : slots) {
        const py::array slot = item.cast<py::array>();
        leaf.slot_arrays.push_back(slot);
        if (!owner.rule)
            continue; // NumPy's own state may have any shape and number
        if (!is_plain(slot.ptr(), leaf.dtype) || size_t(slot.size()) != leaf.size)
            throw std::invalid_argument("state must have the size and dtype of its parameter");
        leaf.slots[leaf.slot_arrays.size() - 1] = proxy(slot.ptr())->data;
    }
    std::copy(owner.memory.begin(), owner.memory.end(), leaf.memory.begin());
    leaves_.push_back(leaf);
}

void Engine::finish() {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        Leaf& leaf = leaves_[i];
        intervals_.push_back({leaf.x, leaf.x + leaf.bytes()});
        if (i == 0)
            continue;
        const Leaf& last = leaves_[i - 1];
        leaf.adjacent =
            leaf.group == last.group && leaf.dtype == last.dtype && leaf.x == last.x + last.bytes();
        const Rule* rule = groups_[size_t(leaf.group)].rule;
        for (size_t k = 0; rule && k < size_t(rule->slots); ++k)
            leaf.adjacent = leaf.adjacent && leaf.slots[k] == last.slots[k] + last.bytes();
    }
    std::sort(intervals_.begin(), intervals_.end(),
              [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
    found_.resize(leaves_.size());
    prepared_.reserve(leaves_.size());
}

void Engine::set_number(int group, const std::string& name, const py::object& source) {
    Turn turn(mutex_);
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

std::vector<int64_t> Engine::times() const {
    std::vector<int64_t> result;
    for (const Leaf& leaf : leaves_)
        result.push_back(leaf.t);
    return result;
}

void Engine::set_times(const std::vector<int64_t>& times) {
    for (size_t i = 0; i < leaves_.size(); ++i)
        leaves_[i].t = times.at(i);
}

double* Engine::memory_of(Leaf& leaf) {
    return shared_ ? shared_memory_.data() : leaf.memory.data();
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

void Engine::check_parameters(const py::object& owner) const {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        const ArrayProxy* array = proxy(leaves_[i].array.ptr());
        if (array->data != leaves_[i].x || !(array->flags & writeable_flag) ||
            !has_shape(array, leaves_[i].shape))
            owner.attr("_refuse_parameter")(i);
    }
}

void Engine::evaluate(const py::object& owner, const py::object& loss) {
    for (size_t k = 0; k < groups_.size(); ++k) {
        Group& group = groups_[k];
        for (size_t i = 0; i < group.numbers.size(); ++i) {
            const Number& number = group.numbers[i];
            if (int(i) == group.loss && !PyNumber_Check(loss.ptr()))
                owner.attr("_refuse_number")(k, number.name, loss);
            double value = int(i) == group.loss ? double(py::float_(loss)) : number.at(step_count);
            if (int(i) == group.lr)
                value *= lr_scale;
            if (!number.holds(value))
                owner.attr("_refuse_number")(k, number.name, value);
            group.values[i] = value;
        }
        for (auto& prepared : group.prepared)
            prepared.index = -1;
    }
}

py::object Engine::result(const py::object& owner, bool stats, const Sums& sums, size_t nonfinite) {
    if (!stats)
        return py::none();
    return owner.attr("_stats")(std::sqrt(sums.grad), std::sqrt(sums.update), std::sqrt(sums.param),
                                nonfinite);
}

py::object Engine::step(const py::object& owner, const py::object& grads, const py::object& loss,
                        bool stats) {
    const Turn turn(mutex_);
    const Release release{gathered_};
    struct Return {
        Engine& engine;
        ~Return() { engine.take_back(); }
    } give_back{*this};
    check_parameters(owner);
    gather(owner, grads);
    evaluate(owner, loss);

    bool finite = true;
    double scale = maximize ? -1 : 1;
    double norm = 0;
    if (clip_norm > 0) {
        norm = gradient_norm(finite);
        const double ratio = clip_norm / (norm + 1e-6);
        if (ratio < 1)
            scale *= ratio;
    }
    if (on_nonfinite != NonFinite::ignore && (clip_norm > 0 ? !finite : true)) {
        const int bad = first_nonfinite();
        if (bad >= 0 && on_nonfinite == NonFinite::raise)
            owner.attr("_refuse_gradient")(bad);
        if (bad >= 0) {
            const double unknown = std::numeric_limits<double>::quiet_NaN();
            return result(owner, stats, {unknown, unknown, 0}, stats ? count_nonfinite() : 0);
        }
    }

    if (strided)
        owner.attr("_read_strided")();
    Sums total = {};
    bool numpy = false;
    for (const Group& group : groups_)
        numpy = numpy || !group.rule;
    if (numpy) {
        py::list flat;
        for (const Leaf& leaf : leaves_)
            flat.append(py::reinterpret_borrow<py::object>(leaf.gradient));
        const py::tuple sums = owner.attr("_run_numpy")(flat, scale, stats);
        total = {sums[0].cast<double>(), sums[1].cast<double>(), sums[2].cast<double>()};
    } else {
        if (two_passes_)
            measure(scale);
        plan(scale, stats);
        std::vector<Sums> sums(stats ? work_.size() : 0);
        run(stats ? &sums : nullptr);
        for (const Sums& part : sums)
            total = {total.grad + part.grad, total.param + part.param, total.update + part.update};
    }
    if (strided)
        owner.attr("_write_strided")();
    if (!lent_.empty())
        owner.attr("_return_rows")();
    for (Leaf& leaf : leaves_)
        leaf.t += leaf.gradient != Py_None;
    ++step_count;
    const bool spoiled = stats && !std::isfinite(total.grad);
    return result(owner, stats, total, spoiled ? count_nonfinite() : 0);
}

} // namespace stepsize
