// Schedules at the border: trees come in as flat lists, steps as numbers or arrays.
#include "bind/schedule_object.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "core/driver.hpp"
#include "core/targets.hpp"

namespace py = pybind11;

namespace stepsize {
namespace {

using schedule::Kind;

constexpr int any = -1;
constexpr size_t piece = 1024;       // steps that stay in the first-level cache between two passes
constexpr size_t long_enough = 4096; // values worth letting other Python threads run for

struct Shape {
    const char* name;
    Kind kind;
    int params, children;
    size_t least_data;
};

constexpr Shape shapes[] = {
    {"constant", Kind::constant, 1, 0, 0},
    {"linear", Kind::linear, 3, 0, 0},
    {"power", Kind::power, 4, 0, 0},
    {"cosine", Kind::cosine, 4, 0, 0},
    {"rex", Kind::rex, 3, 0, 0},
    {"root", Kind::root, 3, 0, 0},
    {"tanh", Kind::tanh, 5, 0, 0},
    {"laps", Kind::laps, 4, 0, 0},
    {"exponential", Kind::exponential, 7, 0, 0},
    {"inverse_time", Kind::inverse_time, 4, 0, 0},
    {"inverse_sqrt", Kind::inverse_sqrt, 2, 0, 0},
    {"levels", Kind::levels, 0, 0, 1},
    {"points", Kind::points, 0, 0, 2},
    {"restarts", Kind::restarts, 5, 0, 0},
    {"cyclic", Kind::cyclic, 7, 0, 0},
    {"scale", Kind::scale, 1, 1, 0},
    {"sum", Kind::sum, 0, 2, 0},
    {"product", Kind::product, 0, 2, 0},
    {"clip", Kind::clip, 2, 1, 0},
    {"join", Kind::join, 0, any, 1},
    {"shift", Kind::shift, 1, 1, 0},
    {"stretch", Kind::stretch, 2, 1, 0},
    {"repeat", Kind::repeat, 1, 1, 0},
    {"pace", Kind::pace, 2, 1, 0},
};

const Shape& shape_of(const NodeDescription& node) {
    for (const Shape& shape : shapes)
        if (node.kind == shape.name)
            return shape;
    throw std::invalid_argument("unknown schedule node '" + node.kind + "'");
}

// levels hold n boundaries and n + 1 values, points n of each, a join one start per child, restarts
// nothing or at least the first cycle's two ends.
bool data_fits(Kind kind, const NodeDescription& node) {
    const size_t n = node.data.size();
    switch (kind) {
    case Kind::levels:
        return n % 2 == 1;
    case Kind::points:
        return n % 2 == 0;
    case Kind::restarts:
        return n == 0 || n >= 2;
    case Kind::join:
        return n == node.children.size();
    default:
        return n == 0;
    }
}

void check(const NodeDescription& node, const Shape& shape, size_t position) {
    const bool children_fit = shape.children == any || int(node.children.size()) == shape.children;
    if (int(node.params.size()) != shape.params || !children_fit ||
        node.data.size() < shape.least_data || !data_fits(shape.kind, node))
        throw std::invalid_argument("schedule node '" + node.kind +
                                    "' has the wrong number of values");
    for (int32_t child : node.children)
        if (child < 0 || size_t(child) >= position)
            throw std::invalid_argument("schedule node '" + node.kind +
                                        "' comes before its children");
}

void check_step(double step) {
    if (step >= 0 && step <= schedule::last_step)
        return;
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", step);
    throw std::invalid_argument(std::string("step must be in [0, 2**53], got ") + text +
                                "; it is the number of updates already applied");
}

// The values at n steps, 64-bit integers or doubles, block by block on as many threads as pay.
void fill(const ScheduleObject& self, const void* from, bool whole, double* to, size_t n) {
    constexpr size_t block = 2048;
    const auto one = [&](size_t i) {
        const size_t start = i * block, count = std::min(block, n - start);
        if (!whole) {
            self.values(static_cast<const double*>(from) + start, to + start, count);
            return;
        }
        double steps[block];
        const int64_t* given = static_cast<const int64_t*>(from) + start;
        std::copy(given, given + count, steps);
        self.values(steps, to + start, count);
    };
    std::atomic<size_t> refused{SIZE_MAX}; // a block; no exception may leave a thread
    parallel_for((n + block - 1) / block, n, [&](size_t i) {
        try {
            one(i);
        } catch (const std::invalid_argument&) {
            refused = std::min(refused.load(), i);
        }
    });
    if (refused != SIZE_MAX)
        one(refused);
}

py::array_t<double> values_of(const ScheduleObject& self, const py::array& steps) {
    const char kind = steps.dtype().kind();
    if (kind != 'f' && kind != 'i' && kind != 'u')
        throw py::type_error("step must hold real numbers, got an array of dtype " +
                             std::string(py::str(py::object(steps.dtype()))));
    py::array_t<double> out(std::vector<py::ssize_t>(steps.shape(), steps.shape() + steps.ndim()));
    const bool whole =
        steps.dtype().is(py::dtype::of<int64_t>()) && steps.flags() & py::array::c_style;
    const py::array in =
        whole ? steps
              : py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(steps);
    if (!in)
        throw py::error_already_set();
    const void* from = in.data();
    double* to = out.mutable_data();
    const size_t n = size_t(in.size());
    if (n < long_enough) {
        fill(self, from, whole, to, n);
    } else {
        const py::gil_scoped_release released;
        fill(self, from, whole, to, n);
    }
    return out;
}

py::array_t<double> first_of(const ScheduleObject& self, size_t n) {
    py::array_t<double> out(static_cast<py::ssize_t>(n));
    double* to = out.mutable_data();
    const py::gil_scoped_release released;
    self.first(to, n);
    return out;
}

PyObject* value_of(const ScheduleObject& self, PyObject* step) {
    if (PyFloat_Check(step))
        return PyFloat_FromDouble(self.at(PyFloat_AS_DOUBLE(step)));
    if (!PyLong_Check(step)) {
        if (py::isinstance<py::array>(step))
            return values_of(self, py::reinterpret_borrow<py::array>(step)).release().ptr();
        if (!PyIndex_Check(step) && !PyObject_HasAttrString(step, "__float__"))
            throw py::type_error(std::string("step must be a number or an ndarray, got ") +
                                 Py_TYPE(step)->tp_name + "; pass numpy.asarray(step)");
    }
    const double number = PyFloat_AsDouble(step);
    if (number == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            throw py::error_already_set();
        PyErr_Clear();
        throw std::invalid_argument("step must be in [0, 2**53], got an int beyond every float");
    }
    return PyFloat_FromDouble(self.at(number));
}

// The type's own call slot: a value costs one C call, without the dispatcher of a bound method.
PyObject* call(PyObject* self, PyObject* args, PyObject* keywords) {
    if (PyTuple_GET_SIZE(args) != 1 || (keywords && PyDict_GET_SIZE(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a schedule takes one argument, the step");
        return nullptr;
    }
    try {
        return value_of(*py::handle(self).cast<const ScheduleObject*>(), PyTuple_GET_ITEM(args, 0));
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::type_error& error) {
        PyErr_SetString(PyExc_TypeError, error.what());
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    }
    return nullptr;
}

} // namespace

ScheduleObject::ScheduleObject(std::vector<NodeDescription> nodes) : described_(std::move(nodes)) {
    if (described_.empty())
        throw std::invalid_argument("a schedule needs at least one node");
    std::vector<int> depth;
    for (const NodeDescription& from : described_) {
        const Shape& shape = shape_of(from);
        check(from, shape, nodes_.size());
        schedule::Node node = {shape.kind,           int32_t(from.children.size()),
                               from.children.data(), from.data.data(),
                               from.data.size(),     {}};
        std::copy(from.params.begin(), from.params.end(), node.p);
        int deepest = 0;
        for (int32_t child : from.children)
            deepest = std::max(deepest, depth[size_t(child)]);
        depth.push_back(deepest + 1);
        nodes_.push_back(node);
    }
    if (depth.back() > schedule::max_depth)
        throw std::invalid_argument(
            "a schedule may be nested " + std::to_string(schedule::max_depth) + " deep, got " +
            std::to_string(depth.back()) + "; ss.schedules.table(s.values(n)) flattens it");
}

double ScheduleObject::at(double step) const {
    check_step(step);
    double out;
    table().evaluate(nodes_.data(), nodes_.size() - 1, &step, &out, 1);
    return out;
}

void ScheduleObject::values(const double* steps, double* out, size_t n) const {
    for (size_t done = 0; done < n; done += piece) {
        const size_t count = std::min(piece, n - done);
        const double* part = steps + done;
        bool right = true; // no early way out of the loop, so that it vectorises
        for (size_t i = 0; i < count; ++i)
            right &= (part[i] >= 0) & (part[i] <= schedule::last_step);
        if (!right)
            for (size_t i = 0; i < count; ++i)
                check_step(part[i]);
        table().evaluate(nodes_.data(), nodes_.size() - 1, part, out + done, count);
    }
}

void ScheduleObject::first(double* out, size_t n) const {
    double steps[piece];
    for (size_t done = 0; done < n; done += piece) {
        const size_t count = std::min(piece, n - done);
        for (size_t i = 0; i < count; ++i)
            steps[i] = double(int64_t(done + i));
        table().evaluate(nodes_.data(), nodes_.size() - 1, steps, out + done, count);
    }
}

void bind_schedules(py::module_& m) {
    py::class_<ScheduleObject, std::shared_ptr<ScheduleObject>>(
        m, "Schedule",
        py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call; }))
        .def(py::init(
                 [](const std::vector<std::tuple<std::string, std::vector<double>,
                                                 std::vector<int32_t>, std::vector<double>>>& in) {
                     std::vector<NodeDescription> nodes;
                     for (const auto& [kind, params, children, data] : in)
                         nodes.push_back({kind, params, children, data});
                     return std::make_shared<ScheduleObject>(std::move(nodes));
                 }),
             py::arg("nodes"))
        .def("at", &ScheduleObject::at, py::arg("step"))
        .def("first", &first_of, py::arg("n"))
        .def("values", &values_of, py::arg("steps"));
}

} // namespace stepsize
