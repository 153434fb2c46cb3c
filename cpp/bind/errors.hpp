// The exception that is being handled, as the Python error that it stands for.
#pragma once

#include <new>
#include <stdexcept>

#include <pybind11/pybind11.h>

namespace stepsize {

namespace py = pybind11;

// Where Python itself ran out of memory, pybind11 throws a runtime_error beside the MemoryError.
inline bool no_memory() { return PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_MemoryError); }

// To be called in a catch block of a raw method; what the method returns.
inline PyObject* raise_current() {
    try {
        throw;
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        if (no_memory())
            return nullptr;
        if (const auto* python = dynamic_cast<const py::builtin_exception*>(&error))
            python->set_error();
        else if (dynamic_cast<const std::runtime_error*>(&error))
            PyErr_SetString(PyExc_RuntimeError, error.what());
        else
            PyErr_SetString(PyExc_ValueError, error.what());
    }
    return nullptr;
}

} // namespace stepsize
