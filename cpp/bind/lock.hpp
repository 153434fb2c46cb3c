// The lock of an engine: one thread and one step at a time.
#pragma once

#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
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

    // A run, such as fit, keeps other threads from stepping until it ends; where it is idle, as one
    // that measures on copies, nobody steps. An empty name ends it.
    void reserve(const std::string& run, bool idle) {
        if (forks_ != fork_count())
            cross_fork();
        run_ = run;
        idle_ = idle;
        thread_ = std::this_thread::get_id();
    }
    // Raises where no step may be made now. To be asked behind the lock, since a step in another
    // thread may be evaluating a function too.
    void admit() const {
        if (!run_.empty() && thread_ != std::this_thread::get_id())
            throw std::runtime_error(
                "step: " + run_ +
                " in another thread is at work with this optimizer, and would see other parameters "
                "at each look; wait for it, or step an optimizer over parameters of its own, "
                "optimizer.clone(copies)");
        if (evaluating > 0 || idle_)
            throw std::runtime_error(
                "step cannot be called by a function that " + (run_.empty() ? "a step" : run_) +
                " of this optimizer evaluates: what it returns would be of other parameters; "
                "return loss and gradients, and step after the call, such as in a callback");
    }

    // A step in parts, from its begin to its end, which may lie in different locks.
    void set_open(bool open) {
        open_ = open;
        opener_ = std::this_thread::get_id();
    }
    bool is_open() {
        if (forks_ != fork_count())
            cross_fork();
        return open_;
    }

    int evaluating = 0; // functions of the user that take the parameters as they are

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
        run_.clear();
        idle_ = false;
        evaluating = 0;
        if (open_ && opener_ != forking_thread()) {
            open_ = false;
            abandoned = true;
        }
        if (depth_ > 0 && owner_ == forking_thread())
            return;
        new (&mutex_) std::mutex;
        abandoned = abandoned || stepping;
        stepping = false;
        depth_ = 0;
    }

    std::mutex mutex_;
    std::thread::id owner_;
    std::string run_;
    std::thread::id thread_; // of the run
    bool idle_ = false;
    bool open_ = false;
    std::thread::id opener_; // of the step in parts
    int depth_ = 0;
    int forks_ = fork_count();
};

using EngineLock = std::lock_guard<EngineMutex>;

// The same for calls that update the engine's arrays. A nested step, made by a Python function that
// the step calls for its rate, would update them during the outer one and is refused.
class StepLock {
  public:
    explicit StepLock(EngineMutex& engine, bool moves = true) : lock_(engine), engine_(engine) {
        if (engine_.stepping)
            throw std::runtime_error(
                "step and bind cannot be called on an optimizer inside its own step, such as by a "
                "rate that is a function; call them after the step has returned");
        if (moves)
            engine_.admit();
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
