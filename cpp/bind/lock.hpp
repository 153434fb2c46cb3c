#pragma once

#include <mutex>

#include <pybind11/pybind11.h>

namespace stepsize {

// Holds the engine's lock, waiting for it without the interpreter's, so that two threads that step
// one optimizer take turns.
class Turn {
  public:
    explicit Turn(std::recursive_mutex& mutex) : mutex_(mutex) {
        if (!mutex_.try_lock()) {
            pybind11::gil_scoped_release release;
            mutex_.lock();
        }
    }
    ~Turn() { mutex_.unlock(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    std::recursive_mutex& mutex_;
};

} // namespace stepsize
