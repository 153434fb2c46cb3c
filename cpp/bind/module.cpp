#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind/errors.hpp"
#include "core/driver.hpp"
#include "core/targets.hpp"
#include "stub.hpp"

namespace stepsize {

namespace py = pybind11;

void bind_optimizers(py::module_& m);
void bind_update(py::module_& m);
void bind_population(py::module_& m);
void bind_schedules(py::module_& m);
void bind_matrices(py::module_& m);
void bind_triad(py::module_& m);

namespace {

std::vector<std::string> available_targets() {
    std::vector<std::string> names;
    for (const Table* candidate : available_tables())
        names.push_back(candidate->target);
    return names;
}

const char* compiler() {
#if defined(__clang__)
    return "Clang " __clang_version__;
#elif defined(__GNUC__)
    return "GCC " __VERSION__;
#elif defined(_MSC_VER)
    return "MSVC";
#else
    return "unknown";
#endif
}

} // namespace

// What pybind11 makes is called by the PyInit__core below.
#define PyInit__core init_in_main_interpreter

PYBIND11_MODULE(_core, m) {
    py::register_local_exception_translator([](std::exception_ptr raised) {
        try {
            std::rethrow_exception(raised);
        } catch (const std::runtime_error&) {
            if (!no_memory())
                throw;
        }
    });
    m.doc() = "Compiled rules and schedules of stepsize.";
    watch_forks();
    m.def("available_targets", available_targets);
    m.def("target", [] { return table().target; });
    m.def("choose_target", choose_target, py::arg("name"));
    m.def("prefetches", prefetches);
    m.def("set_prefetches", set_prefetches, py::arg("on"));
    m.def("compiler", compiler);
    m.attr("stub") = py::bytes(stub, sizeof(stub) - 1);
    m.def("has_openmp", has_openmp);
    m.def("thread_count", thread_count);
    m.def("set_thread_count", set_thread_count, py::arg("count"));
    m.def("set_back_off", set_back_off, py::arg("on"));
    bind_optimizers(m);
    bind_update(m);
    bind_population(m);
    bind_schedules(m);
    bind_matrices(m);
    bind_triad(m);
}

#undef PyInit__core

} // namespace stepsize

// Before Python 3.12 pybind11 waits for ever for the lock of the main interpreter.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (PyInterpreterState_Get() == PyInterpreterState_Main())
        return stepsize::init_in_main_interpreter();
    PyErr_SetString(PyExc_ImportError, "stepsize can be imported in the main interpreter of a "
                                       "process only, and this is a subinterpreter; use threads "
                                       "or processes");
    return nullptr;
}
