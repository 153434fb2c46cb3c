#include "bind/population.hpp"

#include <deque>
#include <stdexcept>

#include <pybind11/stl.h>

#include "bind/chunks.hpp"
#include "core/fpenv.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// The dtype of the numbers; of complex ones, that of their parts.
Dtype dtype_of(const py::array& array) {
    const bool single = has_dtype(array.ptr(), Dtype::float32) ||
                        has_type(array.ptr(), complex_type_of(Dtype::float32));
    return single ? Dtype::float32 : Dtype::float64;
}

int type_seen(const py::array& array) {
    const Dtype dtype = dtype_of(array);
    return is_complex(array.ptr()) ? complex_type_of(dtype) : type_of(dtype);
}

} // namespace

Population::Population(const py::tuple& nest, const py::list& engines, const py::list& hosts,
                       const py::list& params)
    : nest_(nest), found_(params.size()), verified_(params.size()) {
    for (py::handle engine : engines) {
        engine_objects_.push_back(py::reinterpret_borrow<py::object>(engine));
        engines_.push_back(&engine.cast<Engine&>());
        engines_.back()->leaves().add_state(occupied_);
    }
    for (py::handle host : hosts)
        hosts_.push_back(py::reinterpret_borrow<py::object>(host));
    if (hosts_.size() != engines_.size())
        throw std::invalid_argument("every engine needs a host");
    for (py::handle item : params) {
        params_.push_back(item.cast<py::array>());
        const py::array& array = params_.back();
        dtypes_.push_back(dtype_of(array));
        types_.push_back(type_seen(array));
        shapes_.emplace_back(array.shape(), array.shape() + array.ndim());
        if (array.ndim() == 0 || size_t(array.shape(0)) != engines_.size())
            throw std::invalid_argument("stacked parameters need a row for every optimizer");
        occupied_.add(static_cast<const char*>(array.data()), size_t(array.nbytes()));
    }
    occupied_.sort();
}

// Whether the engines can read a stacked gradient in place.
bool Population::fits(size_t i, PyObject* gradient) {
    if (gradient == Py_None)
        return true;
    const py::array& x = params_[i];
    if (!is_array(gradient) || !is_plain(gradient, types_[i]) ||
        !has_shape(proxy(gradient), shapes_[i]))
        return false;
    const char* data = proxy(gradient)->data;
    if (data == verified_[i])
        return true;
    if (occupied_.meets(data, size_t(x.nbytes()), static_cast<const char*>(x.data())))
        return false;
    verified_[i] = data;
    return true;
}

// Takes a reference to every gradient.
void Population::gather(const Host& host, py::handle grads) {
    bool plain = nest_.walk(grads.ptr(), found_.data());
    for (size_t i = 0; plain && i < found_.size(); ++i)
        plain = !is_subclass(found_[i]) && fits(i, found_[i]); // masked arrays etc. go to Python
    if (plain)
        return;
    release();
    // Copies, conversions and error messages are made in Python.
    const py::list flat = host.gather(grads);
    for (size_t i = 0; i < found_.size(); ++i) {
        if (!fits(i, flat[i].ptr()))
            flat[i] = flat[i].attr("copy")(); // it overlaps state
        if (!fits(i, flat[i].ptr()))
            throw std::invalid_argument("a stacked gradient could not be taken");
        found_[i] = py::object(flat[i]).release().ptr();
    }
}

void Population::release() {
    for (PyObject*& gradient : found_)
        Py_CLEAR(gradient);
}

// Refuses stacked parameters whose dtype or shape has changed; the engines check their rows.
void Population::check_params() const {
    for (size_t i = 0; i < params_.size(); ++i) {
        PyObject* array = params_[i].ptr();
        if (!(proxy(array)->flags & writeable_flag) || !has_type(array, types_[i]) ||
            !has_shape(proxy(array), shapes_[i]))
            Host{hosts_[0]}.fail("parameter", i);
    }
}

void Population::check_finite(const Host& host) const {
    const size_t rows = engines_.size();
    for (size_t i = 0; i < found_.size(); ++i) {
        if (found_[i] == Py_None)
            continue;
        const Dtype dtype = dtypes_[i];
        const size_t size = size_t(params_[i].nbytes()) / item_size(dtype) / rows;
        const char* data = proxy(found_[i])->data;
        const auto all_finite = table().all_finite[int(dtype)];
        for (size_t row = 0; row < rows; ++row) {
            const char* part = data + row * size * item_size(dtype);
            if (!all_finite(part, size, engines_[row]->octaves()))
                host.fail("gradient", i, row, all_finite(part, size, 1));
        }
    }
}

void Population::pin(Pins& pins) const {
    pins.reserve(2 * params_.size());
    for (const py::array& array : params_)
        pins.add(array.ptr());
    for (PyObject* gradient : found_)
        if (gradient != Py_None)
            pins.add(gradient);
}

struct Population::Ending {
    Population& population;
    bool all = false; // the step was made in all engines
    ~Ending() {
        for (Engine* engine : population.engines_)
            engine->end_row(all);
        population.release();
    }
};

py::object Population::step(const Host& host, py::handle grads, const py::list& losses, bool stats,
                            bool check) {
    const StepLock lock(mutex_);
    std::deque<StepLock> locks;
    // The user's functions run first, before anything is read that they could change.
    for (size_t k = 0; k < engines_.size(); ++k) {
        locks.emplace_back(engines_[k]->mutex());
        engines_[k]->evaluate(Host{hosts_[k]}, losses[k]);
    }
    Ending ending{*this};
    gather(host, grads);
    Pins pins;
    pin(pins);
    check_params();
    for (size_t k = 0; k < engines_.size(); ++k)
        engines_[k]->check(Host{hosts_[k]});
    if (check)
        check_finite(host);
    py::list results;
    for (size_t k = 0; k < engines_.size(); ++k) {
        const py::object result =
            engines_[k]->step_row(Host{hosts_[k]}, found_.data(), k, stats, check);
        if (stats)
            results.append(result);
    }
    run();
    ending.all = true;
    return stats ? py::object(results) : py::none();
}

// The pending work of all engines, on several threads if there is enough of it.
void Population::run() {
    const DefaultFloatingPoint environment;
    parts_.clear();
    size_t elements = 0;
    for (const Engine* engine : engines_) {
        elements += engine->waiting() ? engine->elements() : 0;
        for (size_t i = 0; i < engine->waiting(); ++i)
            parts_.push_back({engine, i});
    }
    run_chunks(parts_.size(), elements,
               [&](size_t i) { parts_[i].engine->run_chunk(parts_[i].index); });
}

void bind_population(py::module_& m) {
    py::class_<Population>(m, "Population")
        .def(py::init<const py::tuple&, const py::list&, const py::list&, const py::list&>(),
             py::arg("nest"), py::arg("engines"), py::arg("hosts"), py::arg("params"))
        .def(
            "step",
            [](Population& population, const py::object& host, const py::object& grads,
               const py::list& losses, bool stats,
               bool check) { return population.step(Host{host}, grads, losses, stats, check); },
            py::arg("host"), py::arg("grads"), py::arg("losses"), py::arg("stats"),
            py::arg("check"));
}

} // namespace stepsize
