#include <pybind11/pybind11.h>

#include "bind/schedule_object.hpp"

namespace stepsize {

namespace py = pybind11;

void bind_schedules(py::module_& m) {
    py::class_<ScheduleObject, std::shared_ptr<ScheduleObject>>(m, "Schedule")
        .def("at", &ScheduleObject::at);
}

} // namespace stepsize
