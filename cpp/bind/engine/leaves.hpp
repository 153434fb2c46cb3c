// What an optimizer updates: the leaves with their state, and the groups with their
// hyperparameters.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "bind/engine/rows.hpp"
#include "bind/host.hpp"
#include "bind/hyperparameter.hpp"
#include "bind/overlap.hpp"
#include "core/whole.hpp"

namespace stepsize {

// Members that every step reads come first.
struct Leaf {
    py::object array;  // the parameters, as the caller sees them
    py::object descr;  // their dtype at construction
    py::object master; // master weights of half-precision parameters, or None
    char* x;           // where they are computed in place, or null
    Half half;
    size_t size; // of a complex leaf: real and imaginary parts, each a number of `dtype`
    std::vector<Py_ssize_t> shape;
    int64_t t = 0;      // updates of this leaf
    int64_t place = -1; // its number among the leaves of all ranks, if not the one here,
    uint32_t first = 0; // and its first tile there: rounding depends on both
    Dtype dtype;
    int group;
    bool adjacent;          // x and state follow those of the leaf before
    bool coded;             // some operand is quantized
    bool matrix;            // the rule sees it as matrices, or
    const WholeRule* whole; // updates it as a whole
    bool complex;           // the caller sees complex numbers, where two numbers of `dtype` lie
    std::array<Slot, max_slots> slots;
    std::array<double, max_scalars> scalars;
    std::vector<py::object> kept; // its state arrays, and what pins them
    char* average = nullptr;      // the EMA of the parameters, or null
    std::vector<void*> vectors;   // state of a leaf seen as matrices
    // A leaf updated as a whole may be a stack of such: how many, counted by the first so many
    // axes, and the bytes of each state array from one to the next.
    size_t blocks = 1, block_axes = 0;
    std::vector<size_t> block_bytes;
    Bounds bounds = {};
    Correction correction = {0, 1}; // of its gradients, and
    double rate = 1;                // what multiplies its rate, in this step

    const char* seen() const { return half.data ? static_cast<char*>(half.data) : x; }
    Dtype dtype_seen() const { return half.data ? half.dtype : dtype; }
    // NumPy's number of the type that the caller sees, and of its gradients and averages.
    int type_seen() const { return complex ? complex_type_of(dtype) : type_of(dtype_seen()); }
    int type() const { return complex ? complex_type_of(dtype) : type_of(dtype); }
    size_t parts() const { return complex ? 2 : 1; }
    size_t bytes() const { return size * item_size(dtype_seen()); }
};

struct Group {
    // apart: decoupled, but by another share or after the move.
    enum class Decay { coupled, decoupled, none, apart };

    const Rule* rule;            // null: the reference implementation runs it
    const WholeRule* whole;      // of leaves that the rule updates as a whole, or null
    std::vector<double> scalars; // initial values of the rule's scalars
    int shared = -1;             // of `Leaves`: the scalars, where leaves have none of their own
    Decay decay;
    std::vector<Hyperparameter> hyperparameters;
    std::vector<double> values; // of the current step, in the order of hyperparameters
    std::vector<int> changing;  // indices of what a step changes: rate, loss, schedules, functions
    bool settled = false;       // the other values are up to date
    bool steady = false;        // settled, and the only one that may change is a constant rate
    std::vector<int> rule_numbers;
    int lr, weight_decay, loss, decay_max_lr, flatten, stacked;
    int mars_gamma, update_clip;    // where there are none, no sum is taken before the update
    int beta1, beta2, eps, squares; // what these read; the last is the slot of the second moment
    double cautious;                // as in Prologue
    double l1, threshold;           // weight of the penalty, and its soft threshold in this step

    // The values that the rule takes, in its order.
    void numbers(double* out) const {
        for (size_t i = 0; i < rule_numbers.size(); ++i)
            out[i] = values[size_t(rule_numbers[i])];
    }
    double value(int index) const { return index < 0 ? 0 : values[size_t(index)]; }
    // As in Prologue, of decay apart.
    double shrink_apart() const {
        const double rate = value(lr), share = rate * value(weight_decay);
        const double taken = decay_max_lr < 0 ? share : share * (rate / value(decay_max_lr));
        return int(cautious) & 2 ? taken : 1 - taken;
    }
    bool looks() const { return mars_gamma >= 0 || update_clip >= 0; }
};

// Scalars that belong to all leaves of a part together, whatever their groups. A part is the groups
// that follow one rule under the name of one optimizer.
struct SharedScalars {
    int part;
    int group; // its first, by whose hyperparameters they are settled
    std::array<double, max_scalars> values;
};

const Rule* find_rule(const std::string& name);       // throws where there is none
const WholeRule* find_whole(const std::string& name); // null where there is none
// Takes over the state of a leaf that is updated as a whole, in shapes that the rule knows.
void take_arrays(Leaf& leaf, const Group& group, const py::list& slots);

// The loss; anything but a single number, such as an array of one element, is refused by name.
double loss_value(const Host& host, py::handle loss);

// Whether both have no bounds, or the same two numbers.
bool alike(const Bounds& a, const Bounds& b, Dtype dtype);

class Leaves {
  public:
    void add_group(const py::object& kernel, const std::string& decay, double cautious, int squares,
                   const std::vector<double>& scalars, const std::string& scope, int part,
                   const py::list& hyperparameters);
    void add(const py::array& x, const py::object& master, const py::tuple& shape, int group,
             const py::list& slots);
    // The last leaf is half precision that is rounded stochastically.
    void round_stochastically();
    void keep_base(const py::array& x); // pins the original, of which the last leaf is a copy
    // Constrains the last leaf: bounds of the type it is computed in, two numbers or two arrays as
    // the leaf.
    void constrain(const py::array& low, const py::array& high, double l1);
    void finish(); // after the last one

    // Adds the state arrays and master weights of all leaves.
    void add_state(Occupied& occupied) const;

    size_t size() const { return leaves_.size(); }
    Leaf& operator[](size_t i) { return leaves_[i]; }
    const Leaf& operator[](size_t i) const { return leaves_[i]; }
    Leaf& at(size_t i) { return leaves_.at(i); }
    std::vector<Leaf>::iterator begin() { return leaves_.begin(); }
    std::vector<Leaf>::iterator end() { return leaves_.end(); }
    size_t index(const Leaf& leaf) const { return size_t(&leaf - leaves_.data()); }

    std::vector<Group>& groups() { return groups_; }
    Group& group_of(const Leaf& leaf) { return groups_[size_t(leaf.group)]; }
    double* scalars_of(Leaf& leaf) {
        const int shared = group_of(leaf).shared;
        return shared < 0 ? leaf.scalars.data() : shared_[size_t(shared)].values.data();
    }

    const std::vector<SharedScalars>& shared_scalars() const { return shared_; }
    // Whether some rule takes sums before its update or the loop does so, and whether some rule has
    // no compiled twin.
    bool two_passes() const { return two_passes_; }
    bool looks() const { return looks_; }
    bool by_leaf() const { return two_passes_ || looks_; }
    bool reference() const { return reference_; }

    // Pins the parameters' memory temporarily.
    void pin(Pins& pins) const {
        for (ArrayProxy* owner : owners_)
            pins.add_owner(owner);
    }

    // Refuses parameters whose memory or layout has changed. Calls no other code.
    void check(const Host& host) const;
    void check(const Host& host, const Leaf& leaf) const;
    // The hyperparameters of this step; the user's functions run here.
    void evaluate(const Host& host, py::handle loss, int64_t step, double lr_scale);
    void set_number(int group, const std::string& name, const py::object& source);
    double number(int group, const std::string& name, int64_t step, double lr_scale) const;
    py::dict values(int group) const;

    // Whether a gradient there shares memory with parameters other than its own, with state, or
    // with averages that may move in the step.
    bool overlaps(const Leaf& leaf, const char* gradient, size_t bytes) const {
        return occupied_.meets(gradient, bytes, leaf.seen()) ||
               averaged_.meets(gradient, bytes, nullptr);
    }

    // Lets a step see rows of a leaf, each once, instead of all of it, and undoes all of that.
    void bind_rows(size_t i, const py::array& rows);
    bool unbind_rows(); // whether there were some
    bool has_rows() const { return !rows_.empty(); }
    // The rows, out of their leaves and back. The caller pins the leaves.
    void read_rows() const;
    void write_rows() const;

    void set_averages(const py::list& averages);

    // For the garbage collector: the user's functions, which may own the optimizer.
    int visit_functions(visitproc visit, void* arg) const;
    void drop_functions();

  private:
    int share(int part, const std::vector<double>& scalars);
    void evaluate(Group& group, const Host& host, py::handle loss, int64_t step, double lr_scale);

    std::vector<Leaf> leaves_;
    std::vector<Group> groups_;
    Occupied occupied_;               // by parameters and state
    Occupied averaged_;               // by averages
    std::vector<ArrayProxy*> owners_; // of the parameters' memory, each once
    std::vector<RowSlice> rows_;      // of this step
    std::vector<SharedScalars> shared_;
    bool two_passes_ = false;
    bool looks_ = false;
    bool reference_ = false;
    std::vector<py::object> averages_; // and what pins them
};

} // namespace stepsize
