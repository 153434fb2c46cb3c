// The lock of an engine: one thread and one step at a time.
#pragma once

#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "bind/interpreter.hpp"
#include "core/driver.hpp"

namespace stepsize {

// A recursive lock. All but the mutex itself is accessed only by threads that hold the GIL.
class EngineMutex {
  public:
    bool stepping = false;
    bool abandoned = false; // at a fork another thread was in a step, which never ends here

    // Waits without the GIL, so that two threads that use one optimizer take turns.
    void lock() {
        if (forks_ != fork_count())
            cross_fork();
        if (held()) {
            ++depth_;
            return;
        }
        if (!mutex_.try_lock())
            wait();
        owner_ = std::this_thread::get_id();
        depth_ = 1;
    }
    void unlock() {
        if (--depth_ == 0)
            mutex_.unlock();
    }
    bool held() const { return depth_ > 0 && owner_ == std::this_thread::get_id(); }

  private:
    void wait() {
        if (interpreter_ends())
            throw std::runtime_error("the program ends while another thread is in this optimizer");
        const InterpreterReleased released;
        mutex_.lock();
    }

    // In the child of a fork, where only the thread that called it survives.
    void cross_fork() {
        forks_ = fork_count();
        if (depth_ > 0 && owner_ == forking_thread())
            return;
        new (&mutex_) std::mutex;
        abandoned = abandoned || stepping;
        stepping = false;
        depth_ = 0;
    }

    std::mutex mutex_;
    std::thread::id owner_;
    int depth_ = 0;
    int forks_ = fork_count();
};

using EngineLock = std::lock_guard<EngineMutex>;

// The same for calls that update the engine's arrays. A nested step, made by a Python function that
// the step calls for its rate, would update them during the outer one and is refused.
class StepLock {
  public:
    explicit StepLock(EngineMutex& engine) : lock_(engine), engine_(engine) {
        if (engine_.stepping)
            throw std::runtime_error(
                "step and bind cannot be called on an optimizer inside its own step, such as by a "
                "rate that is a function; call them after the step has returned");
        engine_.stepping = true;
    }
    ~StepLock() { engine_.stepping = false; }
    StepLock(const StepLock&) = delete;
    StepLock& operator=(const StepLock&) = delete;

  private:
    const EngineLock lock_;
    EngineMutex& engine_;
};

} // namespace stepsize
