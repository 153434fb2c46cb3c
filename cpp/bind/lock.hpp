// Who may be in an engine: one thread, and one step.
#pragma once

#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "bind/interpreter.hpp"
#include "core/driver.hpp"

namespace stepsize {

// The thread that holds it may take it again. All but the mutex itself is read and written by
// threads that hold the interpreter.
class EngineMutex {
  public:
    bool stepping = false;
    bool abandoned = false; // a step of another thread was under way at a fork: it never ends here

    // Waits without the interpreter, so that two threads that use one optimizer take turns.
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

    // In the child of a fork, where only the thread lives on that has called it.
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

// The same for what moves the engine's arrays. A step that the step itself calls, by a rate that is
// a Python function, would move them under it: that one is refused.
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
