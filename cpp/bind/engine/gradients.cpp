// The engine's look at the gradients: where they lie, their norm, whether they are finite.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "bind/engine/engine.hpp"
#include "bind/dlpack.hpp"
#include "bind/lock.hpp"
#include "core/targets.hpp"

namespace stepsize {

bool Engine::overlaps_parameters(const Leaf& leaf, const char* g) const {
    const char* end = g + leaf.gradient_bytes();
    auto after = std::lower_bound(intervals_.begin(), intervals_.end(), end,
                                  [](const Interval& a, const char* at) { return a.begin < at; });
    // The gradient that is its own parameter is read where it is written: no harm.
    while (after != intervals_.begin()) {
        --after;
        if (after->end <= g)
            return false;
        if (after->begin != leaf.seen() || g != leaf.seen())
            return true;
    }
    return false;
}

// Whether the gradient has another dtype than the one before, which will do as well.
bool Engine::turns(Leaf& leaf, PyObject* gradient) {
    if (leaf.dtype != Dtype::float32 || leaf.sheets)
        return false;
    for (const Dtype dtype : {Dtype::float32, Dtype::float16, Dtype::bfloat16})
        if (is_plain(gradient, dtype)) {
            leaf.g_dtype = dtype;
            leaf.verified = nullptr;
            moved_ = true;
            return true;
        }
    return false;
}

// Notes where a leaf's gradient lies; false if Python has to look at it first.
bool Engine::take(Leaf& leaf, PyObject* gradient) {
    const char* data = nullptr;
    if (gradient != Py_None) {
        if (is_array(gradient)) {
            const ArrayProxy* array = proxy(gradient);
            if (!(is_plain(gradient, leaf.g_dtype) || turns(leaf, gradient)) ||
                !has_shape(array, leaf.shape))
                return false;
            data = array->data;
        } else {
            data = numpy_ ? nullptr : tensor_data(gradient, leaf.dtype, leaf.shape);
            moved_ = moved_ || leaf.g_dtype != leaf.dtype;
            leaf.g_dtype = leaf.dtype;
            if (!data)
                return false;
        }
        if (data != leaf.verified) {
            if (overlaps_parameters(leaf, data))
                return false;
            leaf.verified = data;
        }
    }
    moved_ = moved_ || data != leaf.g;
    leaf.gradient = gradient;
    leaf.g = data;
    return true;
}

void Engine::gather(py::handle owner, py::handle grads) {
    if (stacked_) {
        take_row(stacked_, row_);
        return;
    }
    if (!grads) {
        take_bound(owner);
        return;
    }
    bool plain = nest_.walk(grads.ptr(), found_.data());
    for (size_t i = 0; plain && i < leaves_.size(); ++i)
        plain = take(leaves_[i], found_[i]);
    if (plain)
        return;
    // A copy, a conversion or an error with words: Python's part.
    const py::list flat = owner.attr("_gather")(grads, true);
    gathered_ = flat;
    for (size_t i = 0; i < leaves_.size(); ++i) {
        if (PyTuple_Check(flat[i].ptr())) {
            lend(i, py::reinterpret_borrow<py::tuple>(flat[i]));
            continue;
        }
        if (take(leaves_[i], flat[i].ptr()))
            continue;
        flat[i] = flat[i].attr("copy")(); // it overlaps parameters
        if (!take(leaves_[i], flat[i].ptr()))
            throw std::invalid_argument("a gradient could not be taken");
    }
}

// Lets the step see rows of a leaf instead of all: gradient, parameters and state arrays.
void Engine::lend(size_t i, const py::tuple& rows) {
    Leaf& leaf = leaves_[i];
    const Rule* rule = groups_[size_t(leaf.group)].rule;
    lent_.push_back({i, leaf.x, leaf.size, leaf.shape, leaf.slots, leaf.verified});
    const py::array x = rows[1].cast<py::array>();
    const py::list slots = rows[2].cast<py::list>();
    bool fits = is_plain(x.ptr(), leaf.dtype) && (!rule || int(slots.size()) == rule->slots);
    leaf.x = proxy(x.ptr())->data;
    leaf.size = size_t(x.size());
    leaf.shape.assign(x.shape(), x.shape() + x.ndim());
    for (size_t k = 0; rule && fits && k < slots.size(); ++k) {
        const py::array slot = slots[k].cast<py::array>();
        fits = is_plain(slot.ptr(), leaf.dtype) && size_t(slot.size()) == leaf.size;
        leaf.slots[k] = {proxy(slot.ptr())->data, nullptr, Storage::native};
    }
    leaf.verified = nullptr;
    moved_ = true;
    const py::object gradient = rows[0];
    if (!fits || !take(leaf, gradient.ptr()))
        throw std::invalid_argument("a gradient of rows could not be taken");
}

void Engine::take_back() {
    for (const Lent& lent : lent_) {
        Leaf& leaf = leaves_[lent.leaf];
        leaf.x = lent.x;
        leaf.size = lent.size;
        leaf.shape = lent.shape;
        leaf.slots = lent.slots;
        leaf.verified = lent.verified;
    }
    moved_ = moved_ || !lent_.empty();
    lent_.clear();
}

void Engine::take_bound(py::handle owner) {
    if (!bound_)
        owner.attr("_refuse")("unbound");
    for (size_t i = 0; i < leaves_.size(); ++i)
        if (!take(leaves_[i], PyList_GET_ITEM(bound_.ptr(), Py_ssize_t(i))))
            owner.attr("_refuse")("overlap", i);
}

void Engine::bind(py::handle owner, const py::list& flat) {
    const Turn turn(mutex_);
    const py::object before = bound_;
    bound_ = flat;
    try {
        take_bound(owner);
    } catch (...) {
        bound_ = before;
        throw;
    }
}

double Engine::total_of_squares(double scale) {
    spread(blocks_.size(), [&](size_t i) {
        const Block& block = blocks_[i];
        block_sums_[i] = table().sum_of_squares[int(block.dtype)](block.data, block.size, scale);
    });
    double total = 0;
    for (double sum : block_sums_)
        total += sum;
    return total;
}

// Global norm of the gradients. Where the squares leave the range of double, once more on scaled
// values.
double Engine::gradient_norm(bool& finite) {
    const double total = total_of_squares(1.0);
    finite = true;
    if (std::isfinite(total) && total > 1e-280)
        return std::sqrt(total);
    double top = 0;
    for (const Block& block : blocks_) {
        finite = finite && table().all_finite[int(block.dtype)](block.data, block.size);
        top = std::max(top, table().largest[int(block.dtype)](block.data, block.size));
    }
    if (!finite || top == 0)
        return std::sqrt(total);
    int exponent = 0;
    std::frexp(top, &exponent);
    const double unit = std::ldexp(1.0, std::clamp(exponent, -1020, 1020));
    return unit * std::sqrt(total_of_squares(1 / unit));
}

bool Engine::all_finite() {
    std::atomic<bool> finite{true};
    spread(work_.size(), [&](size_t i) {
        const Work& work = work_[i];
        if (!table().all_finite[int(work.span.g_dtype)](work.span.g, work.span.size))
            finite.store(false, std::memory_order_relaxed);
    });
    return finite;
}

int Engine::first_nonfinite() const {
    for (size_t i = 0; i < leaves_.size(); ++i) {
        const Leaf& leaf = leaves_[i];
        if (leaf.g && !table().all_finite[int(leaf.g_dtype)](leaf.g, leaf.size))
            return int(i);
    }
    return -1;
}

size_t Engine::count_nonfinite() const {
    size_t count = 0;
    for (const Leaf& leaf : leaves_)
        for (size_t i = 0; leaf.g && i < leaf.size; ++i)
            count +=
                !table().all_finite[int(leaf.g_dtype)](leaf.g + i * item_size(leaf.g_dtype), 1);
    return count;
}

} // namespace stepsize
