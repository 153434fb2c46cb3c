// One optimizer's leaves, hyperparameters and counters, and its step: a single call for all
// tensors.
#pragma once

#include <array>
#include <mutex>
#include <vector>

#include "bind/nest.hpp"
#include "bind/numbers.hpp"
#include "core/driver.hpp"
#include "core/table.hpp"

namespace stepsize {

// What every step reads stands first.
struct Leaf {
    py::object array;  // the parameters, as others see them
    py::object master; // of parameters of two bytes, in the type they are computed in, or None
    char* x;           // where they are computed in place, or null
    Half half;
    size_t size;
    PyObject* gradient; // borrowed
    const char* g;      // this step's gradient, or null
    Dtype g_dtype;
    const char* verified;          // a gradient address known not to overlap parameters
    std::vector<Py_ssize_t> shape; // of the gradient
    int64_t t = 0;                 // updates of this leaf
    Dtype dtype;
    int group;
    bool adjacent; // x and state follow those of the leaf before
    bool coded;    // some stream has to be decoded
    bool sheets;   // the rule sees it as matrices
    std::array<Slot, max_slots> slots;
    std::array<double, max_scalars> memory;
    std::vector<py::object> slot_arrays;
    char* average = nullptr;     // what may follow the parameters
    std::vector<void*> vectors;  // state of a leaf seen as matrices, and
    std::vector<double> scratch; // what its passes tell each other

    const char* seen() const { return half.data ? static_cast<char*>(half.data) : x; }
    size_t bytes() const { return size * item_size(half.data ? half.dtype : dtype); }
    size_t gradient_bytes() const { return size * item_size(g_dtype); }
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
    int prepared[dtype_count]; // the last entry laid out for the group, or -1

    bool keeps_scalars() const { return !memory.empty(); }
};

const Rule* find_rule(const std::string& name); // throws where there is none

// Rows of a matrix whose sums by column are taken together.
size_t panel_rows(size_t rows, size_t columns);

enum class NonFinite { raise, skip, ignore };

class Engine {
  public:
    explicit Engine(const py::tuple& nest) : nest_(nest) {}

    void add_group(const py::object& kernel, const std::string& decay,
                   const std::vector<double>& memory, const std::string& scope,
                   const py::list& numbers);
    void add_leaf(const py::array& x, const py::object& master, const py::tuple& shape, int group,
                  const py::list& slots);
    void finish();

    void set_number(int group, const std::string& name, const py::object& source);
    double number(int group, const std::string& name) const;
    py::dict values(int group) const; // as the last step evaluated them

    // Null for grads: the bound ones. A new reference.
    py::object step(py::handle owner, py::handle grads, py::handle loss, bool stats);
    void bind(py::handle owner, const py::list& flat);
    // Lets averages, one for each leaf, go that share of the way to the parameters in the next
    // call of step, unless told to stay; followed tells whether they did.
    void follow(const py::list& averages, double share);
    void stay() { share_ = -1; }
    bool followed() const { return following_; }

    // population.cpp: a step on a row of stacked gradients, known to be finite or not, after a
    // rehearsal of all that can fail. What it leaves to run is for the caller to share out.
    std::recursive_mutex& mutex() { return mutex_; }
    void rehearse(py::handle owner, py::handle loss);
    py::object step_row(py::handle owner, PyObject* const* stacked, size_t row, py::handle loss,
                        bool stats, bool checked);
    size_t pending() const { return pending_ ? work_.size() : 0; }
    size_t elements() const { return elements_; }
    void run_part(size_t i, Sums* sums) const;

    double clip_norm = 0, clip_value = 0; // 0: off
    bool maximize = false;
    bool strided = false; // some parameters are copied in before and out after a step, by Python
    NonFinite on_nonfinite = NonFinite::raise;
    double lr_scale = 1;
    double loss_scale = 1;
    bool dynamic = false;   // the step finds the loss scale,
    int64_t good_steps = 0; // from the finite gradients since it last changed
    int64_t step_count = 0;

    std::vector<int64_t> times() const;
    void set_times(const std::vector<int64_t>& times);
    std::vector<double> memory(size_t leaf);
    void set_memory(size_t leaf, const std::vector<double>& values);

  private:
    // A chunk of a span: a stretch of memory that may run on from leaf to leaf.
    struct Work {
        size_t leaf; // the first one
        size_t prepared;
        const Rule* rule;
        Dtype dtype;
        bool sheets; // a stretch of a leaf seen as matrices: here for its statistics alone
        Span span;
    };
    // The fields of a rule for this step, shared by leaves that have the same ones.
    struct alignas(64) Prepared {
        unsigned char fields[max_bound_rule];
        size_t leaf; // one of them
    };
    // A leaf seen as matrices, and a stretch of its units.
    struct MatrixLeaf {
        size_t leaf;
        size_t prepared;
        const Rule* rule;
        Dtype dtype;
        MatrixView sheets;
    };
    struct RowPanels {
        size_t seen, first, last;
    };
    // A stretch of one leaf's gradient, the unit of norms and checks.
    struct Block {
        const char* data;
        size_t size;
        Dtype dtype;
    };

    struct Return;

    // engine_gradients.cpp
    void gather(py::handle owner, py::handle grads);
    void take_bound(py::handle owner);
    void take_row(PyObject* const* stacked, size_t row);
    bool take(Leaf& leaf, PyObject* gradient);
    bool turns(Leaf& leaf, PyObject* gradient);
    void lend(size_t leaf, const py::tuple& rows);
    void take_back();
    bool overlaps_parameters(const Leaf& leaf, const char* g) const;
    double gradient_norm(bool& finite);
    double total_of_squares(double scale);
    bool all_finite();
    int first_nonfinite() const;
    size_t count_nonfinite() const;

    // engine_plan.cpp
    bool can_follow() const;
    void lay_out(bool separate);
    size_t prepared_for(const Leaf& leaf);
    void cut(const Work& work);
    void prepare(double scale);
    void rule_numbers(const Group& group, double* numbers) const;
    double* memory_of(Leaf& leaf);
    void measure(double scale);
    void run(bool stats);
    template <class Job> void spread(size_t count, const Job& job);

    // engine_sheets.cpp
    void add_vectors(Leaf& leaf, const py::list& slots) const;
    void lay_out_sheets(Leaf& leaf, size_t prepared);
    template <class Pass> void sweep(const Pass& pass);
    void survey_sheets(double scale);
    void settle_sheets(const MatrixLeaf& seen);
    void advance_sheets(bool stats);
    static std::vector<double> numbers_of(const Work& work);

    // engine_step.cpp
    void check_parameters(py::handle owner) const;
    void evaluate(py::handle owner, py::handle loss);
    bool shrink_loss_scale();
    Sums move(py::handle owner, double scale, bool stats);
    py::object result(py::handle owner, bool stats, const Sums& sums, size_t nonfinite);

    Nest nest_;
    std::vector<Leaf> leaves_;
    std::vector<Group> groups_;
    struct Interval {
        const char *begin, *end;
    };
    std::vector<Interval> intervals_; // parameter memory, sorted
    // Leaves of which this step sees some rows, in memory of their own.
    struct Lent {
        size_t leaf;
        char* x;
        size_t size;
        std::vector<Py_ssize_t> shape;
        std::array<Slot, max_slots> slots;
        const char* verified;
    };
    std::vector<Lent> lent_;
    py::object gathered_; // keeps gradients alive that Python had to copy
    bool shared_ = false; // the rule's scalars belong to all leaves together
    bool two_passes_ = false;
    bool numpy_ = false; // some rule has no compiled twin
    std::array<double, max_scalars> shared_memory_ = {};

    std::vector<PyObject*> found_; // this step's gradients, borrowed
    py::object bound_;             // the list of those that `bind` was given
    std::recursive_mutex mutex_;

    PyObject* const* stacked_ = nullptr; // during a step on a row of stacked gradients
    size_t row_ = 0;
    bool pending_ = false; // the work of that step waits

    py::object averages_; // the list that `follow` was given last
    double share_ = -1;   // of the next step; below 0: none
    bool following_ = false;

    // The layout of the work, kept while gradients lie where they lay.
    bool moved_ = true;
    bool separate_ = false;
    bool ahead_ = false;
    size_t elements_ = 0;
    std::vector<Work> work_;
    std::vector<Prepared> prepared_;
    std::vector<MatrixLeaf> seen_;
    std::vector<RowPanels> units_;
    std::vector<Block> blocks_;
    std::vector<double> block_sums_;
    std::vector<Sums> sums_;
};

// Below this many elements the step is over before another thread could use the interpreter.
constexpr size_t release_elements = 65536;

// Calls job(i) for every i below count, on several threads and without the interpreter's lock where
// that pays.
template <class Job> void Engine::spread(size_t count, const Job& job) {
    if (elements_ < release_elements) {
        for (size_t i = 0; i < count; ++i)
            job(i);
        return;
    }
    std::vector<py::object> held; // another thread may empty the nest meanwhile
    for (const Leaf& leaf : leaves_)
        if (leaf.g)
            held.push_back(py::reinterpret_borrow<py::object>(leaf.gradient));
    const py::gil_scoped_release release;
    parallel_for(count, elements_, job);
}

} // namespace stepsize
