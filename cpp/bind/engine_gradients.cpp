// The engine's look at the gradients: where they lie, their norm, whether they are finite.
#include <algorithm>
#include <cmath>

#include "bind/engine.hpp"
#include "core/driver.hpp"
#include "core/targets.hpp"

namespace stepsize {

bool Engine::overlaps_parameters(const Leaf& leaf, const char* g) const {
    const char* end = g + leaf.bytes();
    auto after = std::lower_bound(intervals_.begin(), intervals_.end(), end,
                                  [](const Interval& a, const char* at) { return a.begin < at; });
    // The gradient that is its own parameter is read where it is written: no harm.
    while (after != intervals_.begin()) {
        --after;
        if (after->end <= g)
            return false;
        if (after->begin != leaf.x || g != leaf.x)
            return true;
    }
    return false;
}

// Notes where a leaf's gradient lies; false if Python has to look at it first.
bool Engine::take(Leaf& leaf, PyObject* gradient) {
    leaf.gradient = gradient;
    leaf.g = nullptr;
    if (gradient == Py_None)
        return true;
    if (!py::isinstance<py::array>(gradient) || !is_plain(gradient, leaf.dtype))
        return false;
    const ArrayProxy* array = proxy(gradient);
    if (!has_shape(array, leaf.shape))
        return false;
    if (array->data != leaf.verified) {
        if (overlaps_parameters(leaf, array->data))
            return false;
        leaf.verified = array->data;
    }
    leaf.g = array->data;
    return true;
}

void Engine::gather(const py::object& owner, const py::object& grads) {
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
        leaf.slots[k] = proxy(slot.ptr())->data;
    }
    leaf.verified = nullptr;
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
    lent_.clear();
}

namespace {

struct Block {
    const char* data;
    size_t size;
    Dtype dtype;
    size_t leaf;
};

std::vector<Block> blocks_of(const std::vector<Leaf>& leaves, size_t& elements) {
    std::vector<Block> blocks;
    elements = 0;
    for (size_t k = 0; k < leaves.size(); ++k) {
        const Leaf& leaf = leaves[k];
        if (!leaf.g)
            continue;
        elements += leaf.size;
        for (size_t at = 0; at < leaf.size; at += chunk_size)
            blocks.push_back({leaf.g + at * item_size(leaf.dtype),
                              std::min(chunk_size, leaf.size - at), leaf.dtype, k});
    }
    return blocks;
}

double total_of_squares(const std::vector<Block>& blocks, size_t elements, double scale) {
    std::vector<double> sums(blocks.size());
    share(blocks.size(), elements, [&](size_t i) {
        const Block& block = blocks[i];
        sums[i] = table().sum_of_squares[int(block.dtype)](block.data, block.size, scale);
    });
    double total = 0;
    for (double sum : sums)
        total += sum;
    return total;
}

} // namespace

// Global norm of the gradients. Where the squares leave the range of double, once more on scaled
// values.
double Engine::gradient_norm(bool& finite) {
    size_t elements = 0;
    const std::vector<Block> blocks = blocks_of(leaves_, elements);
    const double total = total_of_squares(blocks, elements, 1.0);
    finite = true;
    if (std::isfinite(total) && total > 1e-280)
        return std::sqrt(total);
    double top = 0;
    for (const Block& block : blocks) {
        finite = finite && table().all_finite[int(block.dtype)](block.data, block.size);
        top = std::max(top, table().largest[int(block.dtype)](block.data, block.size));
    }
    if (!finite || top == 0)
        return std::sqrt(total);
    int exponent = 0;
    std::frexp(top, &exponent);
    const double unit = std::ldexp(1.0, std::clamp(exponent, -1020, 1020));
    return unit * std::sqrt(total_of_squares(blocks, elements, 1 / unit));
}

int Engine::first_nonfinite() {
    size_t elements = 0;
    const std::vector<Block> blocks = blocks_of(leaves_, elements);
    std::vector<unsigned char> bad(blocks.size());
    share(blocks.size(), elements, [&](size_t i) {
        const Block& block = blocks[i];
        bad[i] = !table().all_finite[int(block.dtype)](block.data, block.size);
    });
    for (size_t i = 0; i < blocks.size(); ++i)
        if (bad[i])
            return int(blocks[i].leaf);
    return -1;
}

size_t Engine::count_nonfinite() const {
    size_t count = 0;
    for (const Leaf& leaf : leaves_)
        for (size_t i = 0; leaf.g && i < leaf.size; ++i) {
            const double value = leaf.dtype == Dtype::float32
                                     ? double(reinterpret_cast<const float*>(leaf.g)[i])
                                     : reinterpret_cast<const double*>(leaf.g)[i];
            count += !std::isfinite(value);
        }
    return count;
}

} // namespace stepsize
