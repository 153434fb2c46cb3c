// The source of a step's gradients: a nest, the bound arrays, or a row of stacked gradients.
#pragma once

#include <algorithm>
#include <vector>

#include "bind/engine/leaves.hpp"
#include "bind/pytree.hpp"

namespace stepsize {

// The location of one leaf's gradient.
struct Gradient {
    const char* data; // null: no gradient, the leaf is not updated
    Dtype dtype;
    int type; // NumPy's number of the type in which it comes; of complex leaves a complex one
    const char* verified; // an address known not to overlap parameters
    PyObject* object;     // the array or tensor, or None; held by the source
};

// From `gather` to `release` it holds a reference to every gradient, so that nobody else can free
// what the step reads.
class GradientSource {
  public:
    GradientSource(const py::tuple& nest, Leaves& leaves) : nest_(nest), leaves_(leaves) {}
    ~GradientSource() { release(); }
    GradientSource(const GradientSource&) = delete;
    GradientSource& operator=(const GradientSource&) = delete;

    void finish(); // after the last leaf

    void gather(const Host& host, py::handle grads);
    void gather_bound(const Host& host);
    void gather_leaf(const Host& host, size_t i, py::handle gradient); // of one leaf alone
    void gather_row(PyObject* const* stacked, size_t row);
    void release();

    void bind(const Host& host, const py::list& flat);
    void forget_verified(); // other memory is written now

    Gradient& operator[](size_t i) { return gradients_[i]; }
    const Gradient& operator[](size_t i) const { return gradients_[i]; }
    py::list objects() const;
    void pin(Pins& pins) const;
    void pin_leaf(Pins& pins, size_t i) const;

    // What is new of some gradient since `settle_change`: nothing, its address alone, or more: one
    // where there was none or none where there was one, another dtype, or rows.
    enum class Change { none, address, kind };
    Change change() const { return change_; }
    void settle_change() { change_ = Change::none; }

    int first_nonfinite(int octaves) const; // or too near infinity; -1 for none
    size_t count_nonfinite() const;

  private:
    void note(Change change) { change_ = std::max(change_, change); }
    void put(Gradient& gradient, PyObject* object, const char* data) {
        if (data != gradient.data)
            note(data && gradient.data ? Change::address : Change::kind);
        gradient.object = object;
        gradient.data = data;
    }
    bool take(size_t i, PyObject* object);
    bool turns(size_t i, PyObject* object);
    bool gather_nest(py::handle grads);
    void settle(const Host& host, const py::list& flat, size_t first);

    Pytree nest_;
    Leaves& leaves_;
    std::vector<Gradient> gradients_;
    std::vector<PyObject*> found_; // in the nest of this step: owned, or null
    bool holds_ = false;           // whether some are not null
    py::object bound_;             // the list that `bind` was given
    py::object gathered_;          // what Python had to copy, or views of a row
    Change change_ = Change::kind;
};

} // namespace stepsize
