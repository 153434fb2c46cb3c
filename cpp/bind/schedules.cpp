// Python bindings of schedules: trees arrive as flat lists, steps as numbers or arrays.
#include "bind/schedule_object.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

#include "bind/errors.hpp"
#include "bind/interpreter.hpp"
#include "core/driver.hpp"
#include "core/fpenv.hpp"
#include "core/targets.hpp"

namespace py = pybind11;

namespace stepsize {
namespace {

using schedule::Kind;

constexpr int any = -1;
constexpr size_t piece = 1024;       // steps that stay in the first-level cache between two passes
constexpr size_t long_enough = 4096; // values for which releasing the GIL pays
constexpr double most_nodes = 1 << 20; // evaluated for one step

// What the data of a node are: n boundaries and n + 1 values, n steps and n values, nothing or the
// starts of cycles with the last one's end, one start per child.
enum class Data { none, levels, points, cycles, starts };

struct Shape {
    const char* name;
    Kind kind;
    int params, children;
    Data data;
};

constexpr Shape shapes[] = {
#define NODE(name, params, children, data) {#name, Kind::name, params, children, Data::data},
#include "core/nodes.def"
#undef NODE
};

const Shape& shape_of(const NodeDescription& node) {
    for (const Shape& shape : shapes)
        if (node.kind == shape.name)
            return shape;
    throw std::invalid_argument("unknown schedule node '" + node.kind + "'");
}

bool data_fit(Data data, const NodeDescription& node) {
    const size_t n = node.data.size();
    switch (data) {
    case Data::levels:
        return n % 2 == 1;
    case Data::points:
        return n % 2 == 0 && n > 0;
    case Data::cycles:
        return n == 0 || n >= 2;
    case Data::starts:
        return n == node.children.size() && n > 0;
    default:
        return n == 0;
    }
}

void check(const NodeDescription& node, const Shape& shape, size_t position) {
    const bool children_fit = shape.children == any || int(node.children.size()) == shape.children;
    if (int(node.params.size()) != shape.params || !children_fit || !data_fit(shape.data, node))
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

// The error that a Python function has raised in this thread's evaluation: no exception may pass
// through the kernels, which are compiled without exceptions.
thread_local std::exception_ptr* raised = nullptr;

// A leaf of kind "function": calls a Python function, step by step. After an error it is not called
// again.
void call_function(void* context, const double* steps, double* out, size_t n) {
    std::fill_n(out, n, 0.0);
    if (*raised)
        return;
    const py::gil_scoped_acquire held;
    try {
        const py::object function = *static_cast<const py::object*>(context);
        if (!function)
            throw std::runtime_error("the schedule's function has been collected");
        for (size_t i = 0; i < n; ++i)
            out[i] = call_python(function, py::make_tuple(steps[i])).cast<double>();
    } catch (...) {
        *raised = std::current_exception();
    }
}

// The values at n steps, block by block, on several threads if that pays. `steps(start, count,
// room)` gives so many of them, of its own or in the room.
template <class Steps>
void fill(const ScheduleObject& self, const Steps& steps, double* to, size_t n) {
    constexpr size_t block = 2048;
    const auto one = [&](size_t i) {
        const size_t start = i * block, count = std::min(block, n - start);
        double room[block];
        self.values(steps(start, count, room), to + start, count);
    };
    std::atomic<size_t> refused{SIZE_MAX}; // a block; no exception may leave a thread
    parallel_for((n + block - 1) / block, n, [&](size_t i) {
        try {
            one(i);
        } catch (...) { // made once more below, by this thread
            refused = std::min(refused.load(), i);
        }
    });
    if (refused != SIZE_MAX)
        one(refused);
}

// 64-bit integers or doubles.
void fill_at(const ScheduleObject& self, const void* from, bool whole, double* to, size_t n) {
    if (!whole)
        return fill(
            self,
            [=](size_t start, size_t, double*) { return static_cast<const double*>(from) + start; },
            to, n);
    const auto converted = [=](size_t start, size_t count, double* room) {
        const int64_t* given = static_cast<const int64_t*>(from) + start;
        std::copy(given, given + count, room);
        return static_cast<const double*>(room);
    };
    fill(self, converted, to, n);
}

py::array_t<double> values_of(const ScheduleObject& self, const py::array& steps) {
    const char kind = steps.dtype().kind();
    if (kind != 'f' && kind != 'i' && kind != 'u')
        throw py::type_error("step must hold real numbers, got an array of dtype " +
                             std::string(py::str(py::object(steps.dtype()))));
    py::array_t<double> out(std::vector<py::ssize_t>(steps.shape(), steps.shape() + steps.ndim()));
    const bool calls = !self.functions().empty();
    const bool whole =
        !calls && steps.dtype().is(py::dtype::of<int64_t>()) && steps.flags() & py::array::c_style;
    const py::array in =
        whole ? steps
              : py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(steps);
    if (!in)
        throw py::error_already_set();
    const void* from = in.data();
    double* to = out.mutable_data();
    const size_t n = size_t(in.size());
    if (calls) {
        self.values(static_cast<const double*>(from), to, n); // in order and on this thread
    } else if (n < long_enough) {
        fill_at(self, from, whole, to, n);
    } else {
        const InterpreterReleased released;
        fill_at(self, from, whole, to, n);
    }
    return out;
}

py::array_t<double> first_of(const ScheduleObject& self, size_t n) {
    py::array_t<double> out(static_cast<py::ssize_t>(n));
    double* to = out.mutable_data();
    if (!self.functions().empty()) {
        self.first(to, n);
        return out;
    }
    const InterpreterReleased released;
    const auto counted = [](size_t start, size_t count, double* room) {
        for (size_t i = 0; i < count; ++i)
            room[i] = double(int64_t(start + i));
        return static_cast<const double*>(room);
    };
    fill(self, counted, to, n);
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

// The type's call slot: a value costs one C call, without pybind11's dispatcher.
PyObject* call(PyObject* self, PyObject* args, PyObject* keywords) {
    if (PyTuple_GET_SIZE(args) != 1 || (keywords && PyDict_GET_SIZE(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a schedule takes one argument, the step");
        return nullptr;
    }
    try {
        return value_of(*py::handle(self).cast<const ScheduleObject*>(), PyTuple_GET_ITEM(args, 0));
    } catch (...) {
        return raise_current();
    }
}

bool made(PyObject* self) {
    return reinterpret_cast<py::detail::instance*>(self)
        ->get_value_and_holder()
        .holder_constructed();
}

// For the garbage collector: a function that refers to its own schedule, such as a method of an
// object that has the schedule, would otherwise keep both alive for ever.
int traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (made(self))
        for (const py::object& function : py::handle(self).cast<ScheduleObject&>().functions())
            Py_VISIT(function.ptr());
    return 0;
}

int clear(PyObject* self) {
    if (made(self))
        py::handle(self).cast<ScheduleObject&>().forget_functions();
    return 0;
}

void set_slots(PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_call = call;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = traverse;
    type.tp_clear = clear;
}

} // namespace

ScheduleObject::ScheduleObject(std::vector<NodeDescription> nodes,
                               std::vector<py::object> functions)
    : described_(std::move(nodes)), functions_(std::move(functions)) {
    if (described_.empty())
        throw std::invalid_argument("a schedule needs at least one node");
    std::vector<int> depth;
    size_t called = 0;
    for (const NodeDescription& from : described_) {
        const Shape& shape = shape_of(from);
        check(from, shape, nodes_.size());
        schedule::Node node = {};
        node.kind = shape.kind;
        node.child_count = int32_t(from.children.size());
        node.children = from.children.data();
        node.data = from.data.data();
        node.data_count = from.data.size();
        std::copy(from.params.begin(), from.params.end(), node.p);
        if (shape.kind == Kind::function && called++ < functions_.size()) {
            node.call = call_function;
            node.context = &functions_[called - 1];
        }
        int deepest = 0;
        for (int32_t child : from.children)
            deepest = std::max(deepest, depth[size_t(child)]);
        depth.push_back(deepest + 1);
        nodes_.push_back(node);
    }
    if (called != functions_.size())
        throw std::invalid_argument("a schedule needs one function per node of that kind");
    depth_ = depth.back();
    check_size();
}

// A subtree that two nodes share is evaluated for each of them, so work can double with each level.
void ScheduleObject::check_size() const {
    if (depth_ > schedule::max_depth)
        throw std::invalid_argument(
            "a schedule may be nested " + std::to_string(schedule::max_depth) + " deep, got " +
            std::to_string(depth_) + "; ss.schedules.table(s.values(n)) flattens it");
    std::vector<double> work;
    for (const schedule::Node& node : nodes_) {
        double total = 1;
        for (int32_t k = 0; k < node.child_count; ++k) {
            const double child = work[size_t(node.children[k])];
            if (node.kind == Kind::join) // a step lies in one piece
                total = std::max(total, 1 + child);
            else if (k == 0 || node.children[k] != node.children[0])
                total += child;
        }
        work.push_back(total);
    }
    if (work.back() > most_nodes)
        throw std::invalid_argument(
            "a value of a schedule may take " + std::to_string(int(most_nodes)) +
            " nodes, got more; ss.schedules.table(s.values(n)) of a part flattens it");
}

void ScheduleObject::forget_functions() {
    const std::vector<py::object> kept = functions_; // destroying them may run any code
    for (py::object& function : functions_)
        function = py::object();
}

size_t ScheduleObject::scratch_size(size_t n) const {
    return size_t(depth_ + schedule::more_scratch) * std::min(n, schedule::block);
}

void ScheduleObject::evaluate(const double* steps, double* out, size_t n, double* scratch) const {
    const DefaultFloatingPoint environment; // one step alone and in a step, as many in threads
    if (functions_.empty())
        return table().evaluate(nodes_.data(), nodes_.size() - 1, steps, out, n, scratch);
    std::exception_ptr error;
    std::exception_ptr* const outer = std::exchange(raised, &error);
    table().evaluate(nodes_.data(), nodes_.size() - 1, steps, out, n, scratch);
    raised = outer;
    if (error)
        std::rethrow_exception(error);
}

double ScheduleObject::at(double step) const {
    check_step(step);
    double out, scratch[schedule::max_depth + schedule::more_scratch];
    evaluate(&step, &out, 1, scratch);
    return out;
}

void ScheduleObject::values(const double* steps, double* out, size_t n) const {
    // No function is called before all steps have been checked.
    const size_t most = functions_.empty() ? piece : std::max<size_t>(n, 1);
    const std::unique_ptr<double[]> scratch(new double[scratch_size(n)]);
    for (size_t done = 0; done < n; done += most) {
        const size_t count = std::min(most, n - done);
        const double* part = steps + done;
        bool right = true; // no early exit, so that the loop vectorizes
        for (size_t i = 0; i < count; ++i)
            right &= (part[i] >= 0) & (part[i] <= schedule::last_step);
        if (!right)
            for (size_t i = 0; i < count; ++i)
                check_step(part[i]);
        evaluate(part, out + done, count, scratch.get());
    }
}

void ScheduleObject::first(double* out, size_t n) const {
    const std::unique_ptr<double[]> scratch(new double[scratch_size(n)]);
    double steps[piece];
    for (size_t done = 0; done < n; done += piece) {
        const size_t count = std::min(piece, n - done);
        for (size_t i = 0; i < count; ++i)
            steps[i] = double(int64_t(done + i));
        evaluate(steps, out + done, count, scratch.get());
    }
}

void bind_schedules(py::module_& m) {
    using Given =
        std::tuple<std::string, std::vector<double>, std::vector<int32_t>, std::vector<double>>;
    py::class_<ScheduleObject, std::shared_ptr<ScheduleObject>>(m, "Schedule",
                                                                py::custom_type_setup(set_slots))
        .def(py::init([](const std::vector<Given>& given, std::vector<py::object> functions) {
                 std::vector<NodeDescription> nodes;
                 for (const auto& [kind, params, children, data] : given)
                     nodes.push_back({kind, params, children, data});
                 return std::make_shared<ScheduleObject>(std::move(nodes), std::move(functions));
             }),
             py::arg("nodes"), py::arg("functions") = std::vector<py::object>())
        .def("at", &ScheduleObject::at, py::arg("step"))
        .def("first", &first_of, py::arg("n"))
        .def("values", &values_of, py::arg("steps"));
}

} // namespace stepsize
