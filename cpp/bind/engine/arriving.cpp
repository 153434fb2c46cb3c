// A step in parts: leaf after leaf, as gradients arrive.
#include <limits>
#include <stdexcept>

#include "bind/chunks.hpp"
#include "bind/engine/engine.hpp"
#include "core/fpenv.hpp"

namespace stepsize {

void Engine::refuse_open() {
    if (is_open())
        throw std::runtime_error(
            "a step is under way whose gradients arrive one by one, and nothing else steps until "
            "it ends; leave its block (in torch: call step) first");
}

void Engine::open(const Host& host, py::handle loss, bool evaluates) {
    const StepLock lock(mutex_);
    recover();
    refuse_open();
    if (evaluates)
        evaluate(host, loss);
    check(host);
    mutex_.set_open(true);
}

// Another thread than the one that opened the step may bring the gradients.
std::pair<Arrived, double> Engine::arrive(const Host& host, size_t leaf, py::handle gradient,
                                          bool check, bool own_norm, double norm) {
    const StepLock lock(mutex_, false);
    const Ending ending{*this};
    if (!is_open())
        throw std::runtime_error("the step of this gradient has ended");
    leaves_.check(host, leaves_.at(leaf));
    gradients_.gather_leaf(host, leaf, gradient);
    const DefaultFloatingPoint environment;
    plan_.lay_out_leaf(leaf);
    Pins pins;
    if (plan_.elements() >= release_elements || plan_.has_wholes()) {
        pins.reserve(leaves_.size() + 1);
        leaves_.pin(pins);
        gradients_.pin_leaf(pins, leaf);
    }
    double scale = (maximize ? -1 : 1) / loss_scale;
    bool finite = true;
    double own = std::numeric_limits<double>::quiet_NaN();
    if (own_norm || norm > 0) {
        own = plan_.gradient_norm(finite, nullptr) / loss_scale;
        scale *= clipped(own_norm ? own : norm);
    }
    if (check && finite)
        finite = plan_.all_finite(octaves());
    if (check && !finite)
        return {plan_.all_finite(1) ? Arrived::too_large : Arrived::not_finite, own};

    py::list all;
    for (size_t i = 0; leaves_.reference() && i < leaves_.size(); ++i)
        all.append(i == leaf ? py::handle(gradients_[i].object) : py::handle(Py_None));
    const bool rows = leaves_.has_rows() && leaves_.reference();
    const py::object write_rows = rows ? host.writer("write_rows") : py::none();
    const py::tuple nothing(0);
    leaves_.read_rows();
    if (leaves_.reference()) {
        host.run_reference(all, scale, false);
    } else {
        const double limit = clip_value > 0 ? clip_value : std::numeric_limits<double>::infinity();
        plan_.move({scale, limit, -1, step_count}, false, false, {nullptr, nullptr});
    }
    leaves_.write_rows();
    if (rows)
        call_python(write_rows, nothing);
    ++leaves_[leaf].t;
    return {Arrived::moved, own};
}

void Engine::close(bool counted) {
    const EngineLock lock(mutex_);
    if (is_open() && counted)
        ++step_count;
    mutex_.set_open(false);
}

} // namespace stepsize
