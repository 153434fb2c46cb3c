// The engine's step: what happens in which order, and what stops it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "bind/engine/engine.hpp"
#include "bind/lock.hpp"

namespace stepsize {
namespace {

// Lets go of the gradients that Python prepared, however the step ends.
struct Release {
    py::object& held;
    ~Release() {
        if (held)
            held = py::object();
    }
};

} // namespace

void Engine::check_parameters(py::handle owner) const {
    for (const Leaf& leaf : leaves_) {
        const ArrayProxy* array = proxy(leaf.array.ptr());
        if (array->data != leaf.seen() || !(array->flags & writeable_flag) ||
            !has_shape(array, leaf.shape))
            owner.attr("_refuse")("parameter", size_t(&leaf - leaves_.data()));
    }
}

// What is no single number, such as an array of one, is refused by name.
static double loss_value(py::handle owner, py::handle loss) {
    if (PyNumber_Check(loss.ptr())) {
        const double value = PyFloat_AsDouble(loss.ptr());
        if (value != -1 || !PyErr_Occurred())
            return value;
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            throw py::error_already_set();
        PyErr_Clear();
    }
    owner.attr("_refuse")("number", "loss", loss);
    return 0;
}

void Engine::evaluate(py::handle owner, py::handle loss) {
    for (Group& group : groups_) {
        for (size_t i = 0; i < group.numbers.size(); ++i) {
            const Number& number = group.numbers[i];
            double value = int(i) == group.loss ? loss_value(owner, loss) : number.at(step_count);
            if (int(i) == group.lr)
                value *= lr_scale;
            else if (number.constant() && int(i) != group.loss) {
                group.values[i] = value; // checked when it was set
                continue;
            }
            if (!number.holds(value))
                owner.attr("_refuse")("number", number.name, value);
            group.values[i] = value;
        }
    }
}

// After gradients that are not finite: half the scale, or false where that is not the reason.
bool Engine::shrink_loss_scale() {
    if (!dynamic || loss_scale <= 1)
        return false;
    loss_scale = std::max(loss_scale / 2, 1.0);
    return true;
}

py::object Engine::result(py::handle owner, bool stats, const Sums& sums, size_t nonfinite) {
    if (!stats)
        return py::none();
    return owner.attr("_stats")(std::sqrt(sums.grad), std::sqrt(sums.update), std::sqrt(sums.param),
                                nonfinite);
}

// Runs the rules; the sums of squares over all leaves, if they are asked for.
Sums Engine::move(py::handle owner, double scale, bool stats) {
    if (numpy_) {
        py::list flat;
        for (const Leaf& leaf : leaves_)
            flat.append(py::reinterpret_borrow<py::object>(leaf.gradient));
        const py::tuple sums = owner.attr("_run_numpy")(flat, scale, stats);
        return {sums[0].cast<double>(), sums[1].cast<double>(), sums[2].cast<double>()};
    }
    if (two_passes_)
        measure(scale);
    if (!seen_.empty())
        survey_sheets(scale);
    prepare(scale);
    run(stats);
    Sums total = {};
    for (const Sums& part : sums_)
        total = {total.grad + part.grad, total.param + part.param, total.update + part.update};
    return total;
}

// Gives leaves of which the step saw some rows all of them again, and lets go of averages.
struct Engine::Return {
    Engine& engine;
    ~Return() {
        engine.take_back();
        engine.share_ = -1;
    }
};

py::object Engine::step(py::handle owner, py::handle grads, py::handle loss, bool stats) {
    const Turn turn(mutex_);
    const Release release{gathered_};
    const Return give_back{*this};
    if (!stacked_)
        check_parameters(owner);
    gather(owner, grads);
    if (!stacked_)
        evaluate(owner, loss);
    lay_out(stats || two_passes_);

    bool finite = true;
    double scale = (maximize ? -1 : 1) / loss_scale;
    if (clip_norm > 0) {
        const double norm = gradient_norm(finite) / loss_scale;
        const double ratio = clip_norm / (norm + 1e-6);
        if (ratio < 1)
            scale *= ratio;
    } else if (on_nonfinite != NonFinite::ignore || dynamic) {
        finite = all_finite();
    }
    if (!finite && (on_nonfinite != NonFinite::ignore || dynamic)) {
        const bool mended = shrink_loss_scale();
        if (on_nonfinite == NonFinite::raise && !mended)
            owner.attr("_refuse")("gradient", first_nonfinite());
        good_steps = 0;
        const double unknown = std::numeric_limits<double>::quiet_NaN();
        return result(owner, stats, {unknown, unknown, 0}, stats ? count_nonfinite() : 0);
    }

    if (strided)
        owner.attr("_read_strided")();
    Sums total = move(owner, scale, stats);
    const double divisor = loss_scale;
    if (strided)
        owner.attr("_write_strided")();
    if (!lent_.empty())
        owner.attr("_return_rows")();
    for (Leaf& leaf : leaves_)
        leaf.t += leaf.gradient != Py_None;
    ++step_count;
    constexpr int64_t growth_interval = 2000; // and halves and doubles, as torch's GradScaler
    if (dynamic && ++good_steps == growth_interval) {
        loss_scale = std::min(loss_scale * 2, 0x1p120);
        good_steps = 0;
    }
    const bool spoiled = stats && !std::isfinite(total.grad);
    total.grad /= divisor * divisor;
    return result(owner, stats, total, spoiled ? count_nonfinite() : 0);
}

} // namespace stepsize
