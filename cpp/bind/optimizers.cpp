// Python bindings of the optimizers.
#include <pybind11/stl.h>

#include "bind/allocate.hpp"
#include "bind/assignment.hpp"
#include "bind/dlpack.hpp"
#include "bind/engine/engine.hpp"
#include "bind/errors.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

py::list rules() {
    py::list result;
    const auto add = [&](const Rule& rule) {
        result.append(py::make_tuple(rule.name, rule.numbers, rule.slots));
    };
    for (int i = 0; i < table().rule_count; ++i)
        add(table().rules[i]);
    for (int i = 0; i < whole_table().rule_count; ++i)
        add(whole_table().rules[i].rule);
    return result;
}

double sum_of_squares(const py::array& values) {
    const Dtype dtype = is_plain(values.ptr(), Dtype::float32) ? Dtype::float32 : Dtype::float64;
    if (!is_plain(values.ptr(), dtype))
        throw py::type_error("sum_of_squares: needs a contiguous float32 or float64 array");
    const char* data = proxy(values.ptr())->data;
    const size_t size = size_t(values.size());
    double total = 0;
    for (size_t at = 0; at < size; at += chunk_size)
        total += table().sum_of_squares[int(dtype)](
            data + at * item_size(dtype), size - at < chunk_size ? size - at : chunk_size, 1);
    return total;
}

double sum_lanes(const py::array& values) {
    if (!is_plain(values.ptr(), Dtype::float64))
        throw py::type_error("sum_lanes: needs a contiguous float64 array");
    return table().sum_lanes(reinterpret_cast<const double*>(proxy(values.ptr())->data),
                             size_t(values.size()));
}

NonFinite nonfinite_of(const std::string& name) {
    return name == "raise"  ? NonFinite::raise
           : name == "skip" ? NonFinite::skip
                            : NonFinite::ignore;
}

// What stands for the gradients that were bound, where a step is given none.
struct BoundGradients {};
PyObject* bound_gradients = nullptr;

void add_bound_gradients(py::module_& m) {
    py::class_<BoundGradients>(m, "BoundGradients").def("__repr__", [](const BoundGradients&) {
        return "<bound gradients>";
    });
    bound_gradients = py::cast(BoundGradients{}).release().ptr();
    m.attr("BOUND") = py::handle(bound_gradients);
}

PyTypeObject* engine_type = nullptr;

// As pybind11's cast, which takes as long as the rest of a small step: where the type is no
// subclass, the pointer stands in the instance.
Engine& engine_of(PyObject* self) {
    const auto* instance = reinterpret_cast<py::detail::instance*>(self);
    if (Py_TYPE(self) == engine_type && instance->simple_layout &&
        instance->simple_holder_constructed)
        return *static_cast<Engine*>(instance->simple_value_holder[0]);
    if (!py::detail::is_holder_constructed(self))
        throw py::type_error("Engine.__init__ was not called");
    return py::handle(self).cast<Engine&>();
}

// `stats` where it is neither True nor False of Python itself.
bool truth(const Host& host, PyObject* stats) {
    if (!is_truth(stats))
        host.fail("stats", py::handle(stats));
    return PyObject_IsTrue(stats) == 1;
}

// Engine.step(host, grads, loss, stats); BOUND for grads: the bound ones.
PyObject* step(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "step needs host, grads, loss and stats");
        return nullptr;
    }
    try {
        const py::handle grads = args[1] == bound_gradients ? py::handle() : args[1];
        Engine& engine = engine_of(self);
        const Host host{args[0]};
        const bool stats = args[3] == Py_True || (args[3] != Py_False && truth(host, args[3]));
        return engine.step(host, grads, args[2], stats).release().ptr();
    } catch (...) {
        return raise_current();
    }
}

// Engine.evaluate(function, *arguments): what a function of the user returns, during which nobody
// steps.
PyObject* evaluate(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    struct Evaluating {
        int& depth;
        explicit Evaluating(int& functions) : depth(++functions) {}
        ~Evaluating() { depth -= depth > 0; } // 0 again in the child of a fork
    };
    try {
        if (count < 1)
            throw py::type_error("evaluate needs a function");
        const Evaluating evaluating(engine_of(self).mutex().evaluating);
        return PyObject_Vectorcall(args[0], args + 1, static_cast<size_t>(count - 1), nullptr);
    } catch (...) {
        return raise_current();
    }
}

// An engine holds hyperparameters that are Python functions, which may own its optimizer: without
// this the garbage collector could never free that cycle.
void join_collector(PyHeapTypeObject* heap) {
    PyTypeObject& type = heap->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(Py_TYPE(self));
        if (!py::detail::is_holder_constructed(self))
            return 0;
        return engine_of(self).leaves().visit_functions(visit, arg);
    };
    type.tp_clear = [](PyObject* self) {
        if (py::detail::is_holder_constructed(self))
            engine_of(self).leaves().drop_functions();
        return 0;
    };
}

// Methods that are called at every step, raw: pybind11's dispatcher costs more than a small step.
void add_methods(py::class_<Engine>& type) {
    const auto raw = [](auto* function) {
        return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
    };
    static PyMethodDef methods[] = {
        {"step", raw(step), METH_FASTCALL, "step(host, grads, loss, stats)"},
        {"evaluate", raw(evaluate), METH_FASTCALL, "evaluate(function, *arguments)"},
    };
    engine_type = reinterpret_cast<PyTypeObject*>(type.ptr());
    for (PyMethodDef& method : methods)
        type.attr(method.ml_name) =
            py::reinterpret_steal<py::object>(PyDescr_NewMethod(engine_type, &method));
}

void add_construction(py::class_<Engine>& type) {
    type.def(py::init<const py::tuple&>(), py::arg("nest"))
        .def(
            "add_group",
            [](Engine& engine, const py::object& kernel, const std::string& decay, double cautious,
               int squares, const std::vector<double>& scalars, const std::string& scope, int part,
               const py::list& numbers) {
                engine.leaves().add_group(kernel, decay, cautious, squares, scalars, scope, part,
                                          numbers);
            },
            py::arg("kernel"), py::arg("decay"), py::arg("cautious"), py::arg("squares"),
            py::arg("scalars"), py::arg("scope"), py::arg("part"), py::arg("numbers"))
        .def(
            "add_leaf",
            [](Engine& engine, const py::array& x, const py::object& master, const py::tuple& shape,
               int group,
               const py::list& slots) { engine.leaves().add(x, master, shape, group, slots); },
            py::arg("x"), py::arg("master"), py::arg("shape"), py::arg("group"), py::arg("slots"))
        .def(
            "keep_base", [](Engine& engine, const py::array& x) { engine.leaves().keep_base(x); },
            py::arg("x"))
        .def("round_stochastically", [](Engine& engine) { engine.leaves().round_stochastically(); })
        .def(
            "constrain",
            [](Engine& engine, const py::array& low, const py::array& high, double l1) {
                engine.leaves().constrain(low, high, l1);
            },
            py::arg("low"), py::arg("high"), py::arg("l1"))
        .def("finish", &Engine::finish);
}

void add_use(py::class_<Engine>& type) {
    type.def("set_number", &Engine::set_number, py::arg("group"), py::arg("name"),
             py::arg("source"))
        .def("number", &Engine::number, py::arg("group"), py::arg("name"))
        .def("values", &Engine::values, py::arg("group"))
        .def(
            "check", [](Engine& engine, const py::object& host) { engine.check(Host{host}); },
            py::arg("host"))
        .def(
            "open",
            [](Engine& engine, const py::object& host, const py::object& loss, bool evaluates) {
                engine.open(Host{host}, loss, evaluates);
            },
            py::arg("host"), py::arg("loss"), py::arg("evaluates"))
        .def(
            "arrive",
            [](Engine& engine, const py::object& host, size_t leaf, const py::object& gradient,
               bool check, bool own_norm, double norm) {
                const auto [what, taken] =
                    engine.arrive(Host{host}, leaf, gradient, check, own_norm, norm);
                return py::make_tuple(int(what), taken);
            },
            py::arg("host"), py::arg("leaf"), py::arg("gradient"), py::arg("check"),
            py::arg("own_norm"), py::arg("norm"))
        .def("close", &Engine::close, py::arg("counted"))
        .def_property_readonly("is_open", &Engine::is_open)
        .def("refuse_open", &Engine::refuse_open, py::arg("wanted"), py::arg("owner"))
        .def("track_average", &Engine::track_average, py::arg("averages"), py::arg("share"))
        .def("cancel_average", &Engine::cancel_average)
        .def_property_readonly("average_tracked", &Engine::average_tracked)
        .def_property_readonly("reference",
                               [](Engine& engine) { return engine.leaves().reference(); })
        .def(
            "bind",
            [](Engine& engine, const py::object& host, const py::list& flat) {
                engine.bind(Host{host}, flat);
            },
            py::arg("host"), py::arg("flat"));
}

// Property for a number that a step reads or changes; accessed between steps.
template <class Number>
void add_number(py::class_<Engine>& type, const char* name, Number Engine::* number) {
    type.def_property(
        name,
        [number](Engine& engine) {
            const EngineLock lock(engine.mutex());
            return engine.*number;
        },
        [number](Engine& engine, Number value) {
            const EngineLock lock(engine.mutex());
            engine.*number = value;
        });
}

// As a context manager, an engine blocks the steps of other threads. What steps without the
// engine's own step asks `admit` first.
void add_lock(py::class_<Engine>& type) {
    type.def("__enter__", [](Engine& engine) { engine.hold(); })
        .def("admit", [](Engine& engine) { engine.mutex().admit(); })
        .def("evaluating", [](Engine& engine) { return engine.mutex().evaluating > 0; })
        .def(
            "reserve",
            [](Engine& engine, const std::string& run, bool idle) {
                engine.mutex().reserve(run, idle);
            },
            py::arg("run"), py::arg("idle"))
        .def("__exit__", [](Engine& engine, const py::args&) { engine.let_go(); });
}

void add_settings(py::class_<Engine>& type) {
    add_number(type, "clip_norm", &Engine::clip_norm);
    add_number(type, "clip_value", &Engine::clip_value);
    add_number(type, "maximize", &Engine::maximize);
    add_number(type, "lr_scale", &Engine::lr_scale);
    add_number(type, "loss_scale", &Engine::loss_scale);
    add_number(type, "good_steps", &Engine::good_steps);
    add_number(type, "step_count", &Engine::step_count);
    type.def_readwrite("strided", &Engine::strided)
        .def_readwrite("sharded", &Engine::sharded)
        .def_readwrite("cut", &Engine::cut)
        .def("set_place", &Engine::set_place, py::arg("leaf"), py::arg("place"), py::arg("first"))
        .def_readwrite("dynamic", &Engine::dynamic)
        .def_property("on_nonfinite", nullptr,
                      [](Engine& engine, const std::string& name) {
                          engine.on_nonfinite = nonfinite_of(name);
                      })
        .def_property("times", &Engine::times, &Engine::set_times)
        .def("scalars", &Engine::scalars, py::arg("leaf"))
        .def("set_scalars", &Engine::set_scalars, py::arg("leaf"), py::arg("values"))
        .def("take_over", &Engine::take_over, py::arg("arrays"), py::arg("counts"),
             py::arg("scalars"), py::arg("scales"));
}

} // namespace

void bind_optimizers(py::module_& m) {
    m.attr("chunk_size") = chunk_size;
    m.attr("headroom") = headroom;
    m.attr("tile") = tile;
    m.def("rules", rules,
          "(name, hyperparameter names, number of state arrays) of the compiled rules");
    m.def("allocate", allocate, py::arg("bytes"));
    m.def(
        "register_bfloat16", [](const py::dtype& dtype) { register_bfloat16(dtype.num()); },
        py::arg("dtype"), "Tell the compiled step which of NumPy's dtypes is bfloat16");
    m.def("assignment", assignment, py::arg("targets"), py::arg("values"),
          py::arg("rows") = py::none(),
          "A call in C that writes every value, as it is then, into its array (at its rows)");
    m.def("layout", layout, py::arg("groups"));
    m.def("merge_rows", merge_rows, py::arg("rows"), py::arg("values"),
          "Each row once, in order, and the sum of its values");
    m.def("sum_of_squares", sum_of_squares, py::arg("values"));
    m.def("sum_lanes", sum_lanes, py::arg("values"), "Sum of one block, in its 16 lanes");
    m.def("panel_rows", panel_rows, py::arg("rows"), py::arg("columns"),
          "Rows of a matrix whose sums by column are taken together");
    m.def(
        "power", [](double base, int64_t n) { return table().power(base, n); }, py::arg("base"),
        py::arg("n"));

    add_bound_gradients(m);
    py::class_<Engine> type(m, "Engine", py::custom_type_setup(join_collector));
    add_construction(type);
    add_methods(type);
    add_use(type);
    add_settings(type);
    add_lock(type);
}

} // namespace stepsize
