#include "bind/population.hpp"

#include <deque>
#include <stdexcept>

#include <pybind11/stl.h>

#include "bind/turn.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

Dtype dtype_of(const py::array& array) {
    return has_dtype(array.ptr(), Dtype::float32) ? Dtype::float32 : Dtype::float64;
}

} // namespace

// Takes the gradients that row `row` of stacked arrays holds.
void Engine::take_row(PyObject* const* stacked, size_t row) {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        Leaf& leaf = leaves_[i];
        const bool none = stacked[i] == Py_None;
        const char* data = none ? nullptr : proxy(stacked[i])->data + row * leaf.bytes();
        moved_ = moved_ || data != leaf.g;
        leaf.gradient = stacked[i];
        leaf.g = data;
    }
    if (!numpy_)
        return;
    py::list views;
    for (Leaf& leaf : leaves_) {
        const auto whole = py::reinterpret_borrow<py::object>(leaf.gradient);
        views.append(leaf.g ? py::object(whole[py::make_tuple(row, py::ellipsis())]) : whole);
        leaf.gradient = views[views.size() - 1].ptr();
    }
    gathered_ = views;
}

void Engine::rehearse(py::handle owner, py::handle loss) {
    check_parameters(owner);
    evaluate(owner, loss);
}

py::object Engine::step_row(py::handle owner, PyObject* const* stacked, size_t row, py::handle loss,
                            bool stats, bool checked) {
    struct Restore {
        Engine& engine;
        NonFinite choice;
        ~Restore() {
            engine.on_nonfinite = choice;
            engine.stacked_ = nullptr;
        }
    } const restore{*this, on_nonfinite};
    if (checked)
        on_nonfinite = NonFinite::ignore;
    stacked_ = stacked;
    row_ = row;
    pending_ = false;
    return step(owner, py::none(), loss, stats);
}

Population::Population(const py::tuple& nest, const py::list& optimizers, const py::list& params)
    : nest_(nest), found_(params.size()), verified_(params.size()) {
    for (py::handle optimizer : optimizers) {
        optimizers_.push_back(py::reinterpret_borrow<py::object>(optimizer));
        engine_objects_.push_back(optimizer.attr("_engine"));
        engines_.push_back(&engine_objects_.back().cast<Engine&>());
    }
    for (py::handle item : params) {
        params_.push_back(item.cast<py::array>());
        const py::array& array = params_.back();
        shapes_.emplace_back(array.shape(), array.shape() + array.ndim());
        if (array.ndim() == 0 || size_t(array.shape(0)) != engines_.size())
            throw std::invalid_argument("stacked parameters need a row for every optimizer");
    }
}

// Whether the engines can read a stacked gradient where it lies.
bool Population::fits(size_t i, PyObject* gradient) {
    if (gradient == Py_None)
        return true;
    const py::array& x = params_[i];
    if (!is_array(gradient) || !is_plain(gradient, dtype_of(x)) ||
        !has_shape(proxy(gradient), shapes_[i]))
        return false;
    const char* data = proxy(gradient)->data;
    if (data == verified_[i])
        return true;
    for (const py::array& other : params_) {
        const auto* begin = static_cast<const char*>(other.data());
        const bool same = &other == &x && begin == data; // read where it is written: no harm
        if (!same && begin < data + x.nbytes() && data < begin + other.nbytes())
            return false;
    }
    verified_[i] = data;
    return true;
}

void Population::gather(py::handle owner, py::handle grads) {
    bool plain = nest_.walk(grads.ptr(), found_.data());
    for (size_t i = 0; plain && i < found_.size(); ++i)
        plain = fits(i, found_[i]);
    if (plain)
        return;
    // A copy, a conversion or an error with words: Python's part.
    const py::list flat = owner.attr("_gather")(grads);
    gathered_ = flat;
    for (size_t i = 0; i < found_.size(); ++i) {
        found_[i] = flat[i].ptr();
        if (!fits(i, found_[i]))
            throw std::invalid_argument("a stacked gradient could not be taken");
    }
}

void Population::check_finite(py::handle owner) const {
    const size_t rows = engines_.size();
    for (size_t i = 0; i < found_.size(); ++i) {
        if (found_[i] == Py_None)
            continue;
        const auto gradient = py::reinterpret_borrow<py::array>(found_[i]);
        const Dtype dtype = dtype_of(params_[i]);
        const size_t size = size_t(params_[i].size()) / rows;
        const char* data = proxy(found_[i])->data;
        const auto finite = [&](size_t row) {
            return table().all_finite[int(dtype)](data + row * size * item_size(dtype), size);
        };
        for (size_t row = 0; row < rows; ++row)
            if (!finite(row))
                owner.attr("_refuse_gradient")(i, row);
    }
}

py::object Population::step(py::handle owner, py::handle grads, const py::list& losses, bool stats,
                            bool check) {
    struct Release {
        py::object& held;
        ~Release() { held = py::object(); }
    } const release{gathered_};
    const Turn turn(mutex_);
    gather(owner, grads);
    std::vector<py::object> held; // another thread may empty the nest meanwhile
    for (PyObject* gradient : found_)
        held.push_back(py::reinterpret_borrow<py::object>(gradient));
    if (check)
        check_finite(owner);
    std::deque<Turn> turns;
    for (size_t k = 0; k < engines_.size(); ++k) {
        turns.emplace_back(engines_[k]->mutex());
        engines_[k]->rehearse(optimizers_[k], losses[k]);
    }
    py::list results;
    for (size_t k = 0; k < engines_.size(); ++k) {
        const py::object result =
            engines_[k]->step_row(optimizers_[k], found_.data(), k, losses[k], stats, check);
        if (stats)
            results.append(result);
    }
    run();
    return stats ? py::object(results) : py::none();
}

// The work that the engines have left, on several threads where that pays for all of it.
void Population::run() {
    parts_.clear();
    size_t elements = 0;
    for (const Engine* engine : engines_) {
        elements += engine->pending() ? engine->elements() : 0;
        for (size_t i = 0; i < engine->pending(); ++i)
            parts_.push_back({engine, i});
    }
    const auto job = [&](size_t i) { parts_[i].engine->run_part(parts_[i].index, nullptr); };
    if (elements < release_elements) {
        for (size_t i = 0; i < parts_.size(); ++i)
            job(i);
        return;
    }
    const py::gil_scoped_release release;
    parallel_for(parts_.size(), elements, job);
}

void bind_population(py::module_& m) {
    py::class_<Population>(m, "Population")
        .def(py::init<const py::tuple&, const py::list&, const py::list&>(), py::arg("nest"),
             py::arg("optimizers"), py::arg("params"))
        .def("step", &Population::step, py::arg("owner"), py::arg("grads"), py::arg("losses"),
             py::arg("stats"), py::arg("check"));
}

} // namespace stepsize
