// Releasing and acquiring the GIL (the interpreter's lock), also while the program ends.
#pragma once

#include <chrono>
#include <thread>

#include <pybind11/pybind11.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

namespace stepsize {

namespace py = pybind11;

// Calls a function that acquires the GIL, itself or in the Python code that it runs. If the program
// ends meanwhile, Python ends the thread by unwinding its stack, and the first destructor on the
// way would abort the process; here the thread sleeps until the process is gone.
template <class Call> auto to_the_end(const Call& call) {
#ifdef __GLIBCXX__
    try {
        return call();
    } catch (abi::__forced_unwind&) {
        for (;;)
            std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    return call();
#endif
}

// function(*arguments), which may run Python code.
inline py::object call_python(py::handle function, const py::tuple& arguments) {
    PyObject* found =
        to_the_end([&] { return PyObject_CallObject(function.ptr(), arguments.ptr()); });
    if (!found)
        throw py::error_already_set();
    return py::reinterpret_steal<py::object>(found);
}

// Releases the GIL for its lifetime.
class InterpreterReleased {
  public:
    InterpreterReleased() : state_(PyEval_SaveThread()) {}
    ~InterpreterReleased() {
        to_the_end([this] { PyEval_RestoreThread(state_); });
    }
    InterpreterReleased(const InterpreterReleased&) = delete;
    InterpreterReleased& operator=(const InterpreterReleased&) = delete;

  private:
    PyThreadState* state_;
};

inline bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
}

} // namespace stepsize
