// Who may be in an engine: one thread, and one step.
#pragma once

#include <mutex>
#include <stdexcept>

#include <pybind11/pybind11.h>

namespace stepsize {

struct EngineMutex {
    std::recursive_mutex mutex;
    bool stepping = false;
};

// Holds the engine's mutex, waiting for it without the interpreter's lock, so that two threads that
// use one optimizer take turns. The thread that holds it may take it again.
class EngineLock {
  public:
    explicit EngineLock(EngineMutex& owner) : mutex_(owner.mutex) {
        if (!mutex_.try_lock()) {
            pybind11::gil_scoped_release release;
            mutex_.lock();
        }
    }
    ~EngineLock() { mutex_.unlock(); }
    EngineLock(const EngineLock&) = delete;
    EngineLock& operator=(const EngineLock&) = delete;

  private:
    std::recursive_mutex& mutex_;
};

// The same for what moves the engine's arrays. A step that the step itself calls, by a rate that is
// a Python function, would move them under it: that one is refused.
class StepLock {
  public:
    explicit StepLock(EngineMutex& owner) : lock_(owner), owner_(owner) {
        if (owner_.stepping)
            throw std::runtime_error(
                "step and bind cannot be called on an optimizer inside its own step, such as by a "
                "rate that is a function; call them after the step has returned");
        owner_.stepping = true;
    }
    ~StepLock() { owner_.stepping = false; }
    StepLock(const StepLock&) = delete;
    StepLock& operator=(const StepLock&) = delete;

  private:
    const EngineLock lock_;
    EngineMutex& owner_;
};

} // namespace stepsize
