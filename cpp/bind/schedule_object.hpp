// What the engine needs of a compiled schedule.
#pragma once

namespace stepsize {

class ScheduleObject {
  public:
    virtual ~ScheduleObject() = default;
    virtual double at(double step) const = 0;
};

} // namespace stepsize
