#include "bind/engine/engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "bind/chunks.hpp"
#include "core/fpenv.hpp"

namespace stepsize {

namespace {

// The norm from the plain sum of squares, or from the one to scale where that left its range.
double norm_of(double plain, double small, double large) {
    if (std::isnan(plain) || (plain >= least_sum && std::isfinite(plain)))
        return std::sqrt(plain);
    return plain < least_sum ? std::sqrt(small) * 0x1p-600 : std::sqrt(large) * 0x1p600;
}

// The statistics of a step, as the host makes them, before it: nothing may fail once parameters
// have moved, so the norms are put into floats that are there, and that nobody else has.
class Report {
  public:
    // `anywhere`: on this or another rank, which are asked for the numbers of theirs.
    Report(const Host& host, bool anywhere, size_t nonfinite)
        : host_(host), nonfinite_(nonfinite),
          told_(host.step_stats(anywhere ? std::numeric_limits<double>::quiet_NaN() : 1, 1, 1,
                                nonfinite)) {
        PyObject* const made = told_.ptr();
        ready_ = PyTuple_Check(made) && PyTuple_GET_SIZE(made) == numbers + 1;
        for (Py_ssize_t k = 0; ready_ && k < numbers; ++k) {
            PyObject* const number = PyTuple_GET_ITEM(made, k);
            ready_ = PyFloat_CheckExact(number) && Py_REFCNT(number) == 1;
        }
    }

    py::object of(double grad, double update, double param) const {
        if (!ready_)
            return host_.step_stats(grad, update, param, nonfinite_);
        constexpr double infinite = std::numeric_limits<double>::infinity();
        const double nothing = update != 0 ? infinite : std::numeric_limits<double>::quiet_NaN();
        const double values[numbers] = {grad, update, param, param != 0 ? update / param : nothing};
        for (Py_ssize_t k = 0; k < numbers; ++k)
            reinterpret_cast<PyFloatObject*>(PyTuple_GET_ITEM(told_.ptr(), k))->ob_fval = values[k];
        return told_;
    }

  private:
    static constexpr Py_ssize_t numbers = 4; // grad_norm, update_norm, param_norm, update_ratio
    const Host& host_;
    size_t nonfinite_;
    py::object told_;
    bool ready_ = false;
};

} // namespace

void Engine::finish() {
    leaves_.finish();
    gradients_.finish();
}

void Engine::set_number(int group, const std::string& name, const py::object& source) {
    const EngineLock lock(mutex_);
    leaves_.set_number(group, name, source);
}

py::object Engine::step(const Host& host, py::handle grads, py::handle loss, bool stats) {
    const StepLock lock(mutex_);
    const Ending ending{*this};
    recover();
    if (!loss.is_none() && !PyFloat_CheckExact(loss.ptr()))
        loss_value(host, loss); // also where the rule does not look at it
    // The user's functions run first, before anything is read that they could change.
    evaluate(host, loss);
    check(host);
    if (grads)
        gradients_.gather(host, grads);
    else
        gradients_.gather_bound(host);
    return advance(host, stats, on_nonfinite, false);
}

// In the child of a fork, cleans up what a thread of the parent has left behind.
void Engine::recover() {
    if (!mutex_.abandoned)
        return;
    mutex_.abandoned = false;
    share_ = -1;
    gradients_.release();
    plan_.invalidate();
}

void Engine::evaluate(const Host& host, py::handle loss) {
    refuse_open("another step");
    const DefaultFloatingPoint environment;
    leaves_.evaluate(host, loss, step_count, lr_scale);
}

py::object Engine::step_row(const Host& host, PyObject* const* stacked, size_t row, bool stats,
                            bool checked) {
    recover();
    gradients_.gather_row(stacked, row);
    return advance(host, stats, checked ? NonFinite::ignore : on_nonfinite, true);
}

void Engine::end_row(bool all) {
    const Ending ending{*this};
    if (uncounted_ && (all || waiting() == 0))
        count();
    uncounted_ = false;
}

// Whether this step updates all parameters, and all of them in the loop that can update averages
// too.
bool Engine::can_average() const {
    bool all = share_ >= 0 && !leaves_.reference() && !strided && !leaves_.has_rows();
    for (size_t i = 0; all && i < leaves_.size(); ++i)
        all = gradients_[i].data && !leaves_[i].matrix && !leaves_[i].half.data;
    return all;
}

// The arrays of a step that lets other threads run: all gradients, or that of one leaf.
void Engine::pin_large(Pins& pins, int leaf) {
    if (plan_.elements() < release_elements && !plan_.has_wholes())
        return;
    pins.reserve(2 * leaves_.size());
    leaves_.pin(pins);
    if (leaf < 0)
        gradients_.pin(pins);
    else
        gradients_.pin_leaf(pins, size_t(leaf));
}

Engine::Rows::Rows(const Leaves& leaves, const Host& host) : nothing_(0) {
    if (leaves.has_rows() && leaves.reference())
        write_ = host.writer("write_rows");
}

void Engine::Rows::write() const {
    if (!write_.is_none())
        call_python(write_, nothing_);
}

// From the gradients to the end of the step.
py::object Engine::advance(const Host& host, bool stats, NonFinite policy, bool stacked) {
    const DefaultFloatingPoint environment;
    plan_.lay_out(stats || leaves_.by_leaf(), !stacked && can_average());
    Pins pins;
    pin_large(pins);
    double scale = (maximize ? -1 : 1) / loss_scale;
    if (!usable(host, policy, scale))
        return leave_out(host, stats, policy);

    const Rows rows(leaves_, host);
    const py::object write_strided = strided ? host.writer("write_strided") : py::none();
    const py::tuple nothing(0);
    const bool asked = stats && policy == NonFinite::ignore;
    const bool unseen = asked && !plan_.all_finite(1);
    const bool anywhere = asked && sharded ? host.largest(unseen ? 1 : 0) > 0 : unseen;
    std::optional<Report> report;
    if (stats)
        report.emplace(host, anywhere, unseen ? gradients_.count_nonfinite() : 0);
    if (strided)
        host.read_strided();
    leaves_.read_rows();
    const Sums total = move(host, scale, stats, stacked && !strided);
    const double divisor = loss_scale;
    leaves_.write_rows();
    if (strided)
        call_python(write_strided, nothing);
    rows.write();
    uncounted_ = stacked;
    if (!stacked)
        count();
    if (!stats)
        return py::none();
    const double unscaled = total.grad / (divisor * divisor);
    const bool ordinary = unscaled >= least_sum && std::isfinite(unscaled);
    const double grad = norm_of(total.grad, total.small[0], total.large[0]) / divisor;
    return report->of(ordinary ? std::sqrt(unscaled) : grad,
                      norm_of(total.update, total.small[2], total.large[2]),
                      norm_of(total.param, total.small[1], total.large[1]));
}

// How far below infinity gradients must lie; what makes them smaller takes any finite number.
int Engine::octaves() const {
    return clip_norm > 0 || clip_value > 0 || loss_scale >= 1 << headroom ? 1 : headroom;
}

// What gradients of this norm are multiplied with.
double Engine::clipped(double norm) const {
    const double ratio = clip_norm / (norm + 1e-6);
    return ratio < 1 ? ratio : 1;
}

// Whether the gradients are to be used; with clipping, it also changes their scale.
bool Engine::usable(const Host& host, NonFinite policy, double& scale) {
    const Host* const ranks = sharded ? &host : nullptr;
    bool finite = true;
    const bool matters = policy != NonFinite::ignore || dynamic;
    if (clip_norm > 0) {
        scale *= clipped(plan_.gradient_norm(finite, ranks) / loss_scale);
    } else if (matters) {
        finite = plan_.all_finite(octaves());
        if (ranks)
            finite = ranks->largest(finite ? 0 : 1) == 0;
    }
    return finite || !matters;
}

// A skipped step, because of non-finite gradients.
py::object Engine::leave_out(const Host& host, bool stats, NonFinite policy) {
    const bool mended = dynamic && loss_scale > 1;
    if (policy == NonFinite::raise && !mended) {
        const int wrong = gradients_.first_nonfinite(1);
        const bool finite = wrong < 0;
        host.fail("gradient", finite ? gradients_.first_nonfinite(octaves()) : wrong, finite);
    }
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    py::object told = py::none();
    if (stats)
        told = host.step_stats(unknown, 0.0, unknown, gradients_.count_nonfinite());
    if (mended)
        loss_scale = std::max(loss_scale / 2, 1.0);
    good_steps = 0;
    return told;
}

Sums Engine::move(const Host& host, double scale, bool stats, bool may_wait) {
    if (leaves_.reference())
        return host.run_reference(gradients_.objects(), scale, stats);
    const double limit = clip_value > 0 ? clip_value : std::numeric_limits<double>::infinity();
    const Over over = {sharded ? &host : nullptr, cut ? &host : nullptr};
    return plan_.move({scale, limit, share_, step_count}, stats, may_wait, over);
}

void Engine::count() {
    for (size_t i = 0; i < leaves_.size(); ++i)
        leaves_[i].t += gradients_[i].object != Py_None;
    ++step_count;
    constexpr int64_t growth_interval = 2000; // and halves and doubles, as torch's GradScaler
    if (dynamic && ++good_steps == growth_interval) {
        loss_scale = std::min(loss_scale * 2, 0x1p120);
        good_steps = 0;
    }
}

void Engine::bind(const Host& host, const py::list& flat) {
    const StepLock lock(mutex_, false);
    recover();
    gradients_.bind(host, flat);
}

void Engine::track_average(const py::list& averages, double share) {
    const StepLock lock(mutex_, false);
    refuse_open("another step");
    if (!averages.is(averages_)) {
        leaves_.set_averages(averages);
        averages_ = averages;
        gradients_.forget_verified();
        plan_.invalidate();
    }
    share_ = share;
}

void Engine::let_go() {
    if (!mutex_.held())
        throw std::runtime_error("the engine is not held by this thread");
    mutex_.unlock();
}

double Engine::number(int group, const std::string& name) {
    const EngineLock lock(mutex_);
    return leaves_.number(group, name, step_count, lr_scale);
}

py::dict Engine::values(int group) {
    const EngineLock lock(mutex_);
    return leaves_.values(group);
}

void Engine::set_place(size_t leaf, int64_t place, uint32_t first) {
    const EngineLock lock(mutex_);
    leaves_.at(leaf).place = place;
    leaves_.at(leaf).first = first;
    plan_.invalidate();
}

std::vector<int64_t> Engine::times() {
    const EngineLock lock(mutex_);
    std::vector<int64_t> result;
    for (const Leaf& leaf : leaves_)
        result.push_back(leaf.t);
    return result;
}

void Engine::set_times(const std::vector<int64_t>& times) {
    const EngineLock lock(mutex_);
    if (times.size() != leaves_.size())
        throw std::invalid_argument("there must be one number of updates for each leaf");
    for (size_t i = 0; i < leaves_.size(); ++i)
        leaves_[i].t = times[i];
    plan_.invalidate(); // leaves may share their fields differently now
}

void Engine::take_over(const py::object& arrays, const std::vector<int64_t>& counts,
                       const std::vector<std::vector<double>>& scalars,
                       const std::vector<double>& scales) {
    const EngineLock lock(mutex_);
    const Assignment& state = assignment_of(arrays);
    bool alike = counts.size() == leaves_.size() + 2 && scalars.size() == leaves_.size() &&
                 scales.size() == 2;
    for (size_t i = 0; alike && i < leaves_.size(); ++i)
        alike = scalars[i].size() == leaves_.group_of(leaves_[i]).scalars.size();
    if (!alike)
        throw std::invalid_argument("take_over: wrong number of counts, scalars or scales");
    if (!state.run())
        throw std::invalid_argument("take_over: a state array has changed its shape");
    for (size_t i = 0; i < leaves_.size(); ++i) {
        leaves_[i].t = counts[i];
        std::copy(scalars[i].begin(), scalars[i].end(), leaves_.scalars_of(leaves_[i]));
    }
    step_count = counts[leaves_.size()];
    lr_scale = scales[0];
    if (dynamic) {
        loss_scale = scales[1];
        good_steps = counts[leaves_.size() + 1];
    }
    plan_.invalidate(); // leaves may share their fields differently now
}

std::vector<double> Engine::scalars(size_t leaf) {
    const EngineLock lock(mutex_);
    Leaf& from = leaves_.at(leaf);
    const double* values = leaves_.scalars_of(from);
    return {values, values + leaves_.group_of(from).scalars.size()};
}

void Engine::set_scalars(size_t leaf, const std::vector<double>& values) {
    const EngineLock lock(mutex_);
    Leaf& to = leaves_.at(leaf);
    if (values.size() != leaves_.group_of(to).scalars.size())
        throw std::invalid_argument("wrong number of scalars for one leaf");
    std::copy(values.begin(), values.end(), leaves_.scalars_of(to));
}

} // namespace stepsize
