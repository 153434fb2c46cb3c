// One optimizer's step: a single call for all tensors.
#pragma once

#include <utility>
#include <vector>

#include "bind/assignment.hpp"
#include "bind/engine/plan.hpp"
#include "bind/lock.hpp"

namespace stepsize {

enum class NonFinite { raise, skip, ignore };
enum class Arrived { moved, not_finite, too_large };

// The order of the parts of a step, and what stops it; an error changes nothing.
class Engine {
  public:
    explicit Engine(const py::tuple& nest)
        : gradients_(nest, leaves_), plan_(leaves_, gradients_) {}

    Leaves& leaves() { return leaves_; }
    void finish(); // after the last leaf

    void set_number(int group, const std::string& name, const py::object& source);
    double number(int group, const std::string& name);
    py::dict values(int group); // of the last step

    // A null grads means the bound ones. Returns a new reference.
    py::object step(const Host& host, py::handle grads, py::handle loss, bool stats);
    void bind(const Host& host, const py::list& flat);

    // A step in parts: `open` evaluates its hyperparameters (unless a whole step will, after
    // `close`), `arrive` moves one leaf by them, and `close` ends it, counted or not. Until then
    // nothing else steps.
    void open(const Host& host, py::handle loss, bool evaluates);
    // With `check`, a gradient that is not finite moves nothing. Gradients are clipped by their own
    // norm, or by one that is given (0: not at all). Returns what became of it and its norm, where
    // that was taken.
    std::pair<Arrived, double> arrive(const Host& host, size_t leaf, py::handle gradient,
                                      bool check, bool own_norm, double norm);
    void close(bool counted);
    bool is_open() { return mutex_.is_open(); }
    // Refuses what would see some leaves before a step and others after it.
    void refuse_open(const char* wanted, const char* owner = "");

    // Fused EMA update: the next call of step moves averages, one for each leaf, towards the
    // parameters with the weight `share`, unless it is cancelled; average_tracked tells whether it
    // did.
    void track_average(const py::list& averages, double share);
    void cancel_average() { share_ = -1; }
    bool average_tracked() const { return plan_.averages(); }

    // A step in three parts, for many optimizers at once, under one StepLock of the caller:
    // everything that runs the user's code; the check of the parameters; and the step on a row of
    // stacked gradients that the caller holds, checked for finiteness or not. The caller runs the
    // chunks that it leaves waiting, and calls `end_row`, which counts the step: that of all
    // engines, or nothing that waits.
    EngineMutex& mutex() { return mutex_; }
    // Blocks other threads between these two calls, which the same thread makes.
    void hold() { mutex_.lock(); }
    void let_go();
    void evaluate(const Host& host, py::handle loss);
    void check(const Host& host) const { leaves_.check(host); }
    int octaves() const;
    py::object step_row(const Host& host, PyObject* const* stacked, size_t row, bool stats,
                        bool checked);
    void end_row(bool all);
    size_t waiting() const { return plan_.waiting(); }
    size_t elements() const { return plan_.elements(); }
    void run_chunk(size_t i) const { plan_.run_chunk(i, nullptr); }

    double clip_norm = 0, clip_value = 0; // 0: off
    bool maximize = false;
    bool strided = false; // some parameters are copied in before and out after a step, by Python
    bool sharded = false; // other ranks hold the other leaves
    bool cut = false;     // and parts of these: what is summed up is summed over all ranks
    NonFinite on_nonfinite = NonFinite::raise;
    double lr_scale = 1;
    double loss_scale = 1;
    bool dynamic = false;   // the step adapts the loss scale
    int64_t good_steps = 0; // finite steps since it last changed
    int64_t step_count = 0;

    // Where a leaf that is a part of another one lies in it, for stochastic rounding.
    void set_place(size_t leaf, int64_t place, uint32_t first);

    // All of a saved state, or nothing: an `assignment` of its arrays; the updates of each leaf, of
    // all and the good steps; each leaf's scalars; lr_scale and loss_scale.
    void take_over(const py::object& arrays, const std::vector<int64_t>& counts,
                   const std::vector<std::vector<double>>& scalars,
                   const std::vector<double>& scales);
    std::vector<int64_t> times();
    void set_times(const std::vector<int64_t>& times);
    std::vector<double> scalars(size_t leaf);
    void set_scalars(size_t leaf, const std::vector<double>& values);

  private:
    // Lets go of gradients, rows and averages, however the step ends.
    struct Ending {
        Engine& engine;
        ~Ending() {
            engine.gradients_.release();
            engine.share_ = -1;
        }
    };

    // What writes rows back that the reference loop has moved, after all other writing; it is there
    // before anything moves.
    class Rows {
      public:
        Rows(const Leaves& leaves, const Host& host);
        void write() const;

      private:
        py::object write_ = py::none();
        py::tuple nothing_;
    };

    void recover();
    py::object advance(const Host& host, bool stats, NonFinite policy, bool stacked);
    bool can_average() const;
    void pin_large(Pins& pins, int leaf = -1);
    bool usable(const Host& host, NonFinite policy, double& scale);
    py::object leave_out(const Host& host, bool stats, NonFinite policy);
    Sums move(const Host& host, double scale, bool stats, bool may_wait);
    void count();
    double clipped(double norm) const;

    Leaves leaves_;
    GradientSource gradients_;
    Plan plan_;
    EngineMutex mutex_;
    py::object averages_;    // the list that `track_average` was given last
    bool uncounted_ = false; // a step on a row has been made
    double share_ = -1;      // weight of the next EMA update; below 0: none
};

} // namespace stepsize
