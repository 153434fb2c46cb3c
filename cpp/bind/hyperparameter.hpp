// A hyperparameter: a constant, a compiled schedule or a Python function of the step, with its
// range.
#pragma once

#include <limits>
#include <memory>
#include <string>

#include "bind/interpreter.hpp"
#include "bind/numpy.hpp"
#include "bind/schedule_object.hpp"

namespace stepsize {

struct Hyperparameter {
    std::string name;
    double low = 0, high = 0;
    bool low_open = false, high_open = false;
    double value = 0;
    std::shared_ptr<const ScheduleObject> schedule;
    py::object function; // or the schedule as Python sees it, if it calls functions

    bool constant() const { return !schedule && !function && value == value; }

    void set(const py::object& source) {
        std::shared_ptr<const ScheduleObject> tree;
        py::object callable;
        double number = 0;
        if (py::isinstance<ScheduleObject>(source)) {
            tree = source.cast<std::shared_ptr<ScheduleObject>>();
            if (!tree->functions().empty())
                callable = source;
        } else if (PyCallable_Check(source.ptr()))
            callable = source;
        else
            number = source.cast<double>();
        value = number;
        schedule = tree;
        function = callable;
    }

    double at(int64_t step) const {
        if (schedule)
            return schedule->at(double(step));
        return function ? result(step) : value;
    }

    double result(int64_t step) const {
        const py::object held = function; // it may replace itself during the call
        const py::object found = call_python(held, py::make_tuple(step));
        const double number = PyFloat_AsDouble(found.ptr());
        if (number == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            throw py::type_error(name + ": the function of the step returned " +
                                 py::repr(found).cast<std::string>() + " at step " +
                                 std::to_string(step) + ", expected a number");
        }
        return number;
    }

    // What the garbage collector asks for; a step after it finds no number.
    void drop_function() {
        if (!function)
            return;
        value = std::numeric_limits<double>::quiet_NaN();
        schedule.reset();
        function = py::object();
    }

    bool holds(double v) const {
        return (low_open ? v > low : v >= low) && (high_open ? v < high : v <= high);
    }
};

} // namespace stepsize
