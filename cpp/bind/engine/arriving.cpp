// A step in parts: leaf after leaf, as gradients arrive.
#include <limits>
#include <stdexcept>

#include "bind/chunks.hpp"
#include "bind/engine/engine.hpp"
#include "core/fpenv.hpp"

namespace stepsize {

void Engine::refuse_open(const char* wanted, const char* owner) {
    if (!is_open())
        return;
    std::string words = *owner ? owner + std::string(": ") : "";
    words += "a step is under way whose gradients arrive one by one, and ";
    words += wanted;
    throw std::runtime_error(words + " has to wait until it ends; leave the block of arriving() "
                                     "(in torch: call step) first");
}

void Engine::open(const Host& host, py::handle loss, bool evaluates) {
    const StepLock lock(mutex_);
    recover();
    refuse_open("another step");
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
    pin_large(pins, int(leaf));
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
    const Rows rows(leaves_, host);
    leaves_.read_rows();
    if (leaves_.reference()) {
        host.run_reference(all, scale, false);
    } else {
        const double limit = clip_value > 0 ? clip_value : std::numeric_limits<double>::infinity();
        plan_.move({scale, limit, -1, step_count}, false, false, {nullptr, nullptr});
    }
    leaves_.write_rows();
    rows.write();
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
