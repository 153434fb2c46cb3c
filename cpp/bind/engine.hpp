// One optimizer's leaves, hyperparameters and counters, and its step: a single call for all
// tensors.
#pragma once

#include <array>
#include <mutex>
#include <vector>

#include "bind/nest.hpp"
#include "bind/numbers.hpp"

namespace stepsize {

struct Leaf {
    py::object array; // keeps x alive
    char* x;
    size_t size;
    Dtype dtype;
    std::vector<Py_ssize_t> shape; // of the gradient
    int group;
    std::vector<py::object> slot_arrays;
    std::array<char*, max_slots> slots;
    std::array<double, max_memory> memory;
    int64_t t = 0;        // updates of this leaf
    bool adjacent;        // x and state follow those of the leaf before
    const char* g;        // this step's gradient, or null
    PyObject* gradient;   // borrowed
    const char* verified; // a gradient address known not to overlap parameters

    size_t bytes() const { return size * item_size(dtype); }
};

struct Group {
    enum class Decay { coupled, decoupled, none };

    const Rule* rule;           // null: the rule runs on NumPy
    std::vector<double> memory; // first values of the scalars the rule keeps
    Decay decay;
    std::vector<Number> numbers;
    std::vector<double> values; // of the current step, in the order of numbers
    std::vector<int> rule_numbers;
    int lr, weight_decay, cautious, loss;
    struct {
        int64_t t;
        int index;
    } prepared[dtype_count];
};

enum class NonFinite { raise, skip, ignore };

class Engine {
  public:
    explicit Engine(const py::tuple& nest) : nest_(nest) {}

    void add_group(const py::object& kernel, const std::string& decay,
                   const std::vector<double>& memory, const std::string& scope,
                   const py::list& numbers);
    void add_leaf(const py::array& x, const py::tuple& shape, int group, const py::list& slots);
    void finish();

    void set_number(int group, const std::string& name, const py::object& source);
    double number(int group, const std::string& name) const;
    py::dict values(int group) const; // as the last step evaluated them

    py::object step(const py::object& owner, const py::object& grads, const py::object& loss,
                    bool stats);

    double clip_norm = 0, clip_value = 0; // 0: off
    bool maximize = false;
    bool strided = false; // some parameters are copied in before and out after a step, by Python
    NonFinite on_nonfinite = NonFinite::raise;
    double lr_scale = 1;
    int64_t step_count = 0;

    std::vector<int64_t> times() const;
    void set_times(const std::vector<int64_t>& times);
    std::vector<double> memory(size_t leaf);
    void set_memory(size_t leaf, const std::vector<double>& values);

  private:
    struct Work {
        size_t leaf; // the first one
        const Rule* rule;
        Dtype dtype;
        const void* prepared;
        Span span;
    };

    void gather(const py::object& owner, const py::object& grads);
    bool take(Leaf& leaf, PyObject* gradient);
    void lend(size_t leaf, const py::tuple& rows);
    void take_back();
    bool overlaps_parameters(const Leaf& leaf, const char* g) const;
    void check_parameters(const py::object& owner) const;
    void evaluate(const py::object& owner, const py::object& loss);
    double gradient_norm(bool& finite);
    int first_nonfinite();
    size_t count_nonfinite() const;
    void plan(double scale, bool separate);
    const void* prepared_for(Leaf& leaf, double scale);
    void cut(const Work& work);
    void rule_numbers(const Group& group, double* numbers) const;
    double* memory_of(Leaf& leaf);
    void measure(double scale);
    void run(std::vector<Sums>* sums);
    template <class Job> void spread(const Job& job);
    py::object result(const py::object& owner, bool stats, const Sums& sums, size_t nonfinite);

    Nest nest_;
    std::vector<Leaf> leaves_;
    std::vector<Group> groups_;
    struct Interval {
        const char *begin, *end;
    };
    std::vector<Interval> intervals_; // parameter memory, sorted
    std::vector<PyObject*> found_;
    // Leaves of which this step sees some rows, in memory of their own.
    struct Lent {
        size_t leaf;
        char* x;
        size_t size;
        std::vector<Py_ssize_t> shape;
        std::array<char*, max_slots> slots;
        const char* verified;
    };
    std::vector<Lent> lent_;
    py::object gathered_; // keeps gradients alive that Python had to copy
    bool shared_ = false; // the rule's scalars belong to all leaves together
    bool two_passes_ = false;
    std::array<double, max_memory> shared_memory_ = {};
    std::vector<Work> work_;
    std::vector<std::array<unsigned char, max_prepared>> prepared_;
    size_t elements_ = 0;
    std::recursive_mutex mutex_;
};

} // namespace stepsize
