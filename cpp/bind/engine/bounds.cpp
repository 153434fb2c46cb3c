// What follows the update of a leaf: its bounds, the weight of its L1 penalty, and its average.
#include <cstring>
#include <stdexcept>

#include "bind/engine/leaves.hpp"

namespace stepsize {

bool alike(const Bounds& a, const Bounds& b, Dtype dtype) {
    if (!a.low || !b.low)
        return !a.low && !b.low;
    return !a.each && !b.each && !std::memcmp(a.low, b.low, item_size(dtype)) &&
           !std::memcmp(a.high, b.high, item_size(dtype));
}

void Leaves::constrain(const py::array& low, const py::array& high, double l1) {
    Leaf& leaf = leaves_.back();
    const bool each = low.ndim() > 0;
    for (const py::array& side : {low, high}) {
        if (!is_plain(side.ptr(), leaf.dtype) || size_t(side.size()) != (each ? leaf.size : 1))
            throw std::invalid_argument("bounds must be numbers of the leaf's type, or arrays of "
                                        "its size");
        leaf.kept.push_back(keep_in_place(side.ptr()));
        leaf.kept.push_back(side);
    }
    Group& group = group_of(leaf);
    group.l1 = l1; // the same for all its leaves
    leaf.bounds = {proxy(low.ptr())->data, proxy(high.ptr())->data, &group.threshold, each};
}

void Leaves::set_averages(const py::list& averages) {
    if (averages.size() != leaves_.size())
        throw std::invalid_argument("there must be one average for each leaf");
    std::vector<py::object> kept;
    for (size_t i = 0; i < leaves_.size(); ++i) {
        const py::array average = averages[i].cast<py::array>();
        if (!is_plain(average.ptr(), leaves_[i].type()) || !average.writeable() ||
            size_t(average.size()) * leaves_[i].parts() != leaves_[i].size)
            throw std::invalid_argument("an average must be a writable array as its leaf");
        kept.push_back(average);
        kept.push_back(keep_in_place(average.ptr()));
    }
    averaged_ = Occupied();
    for (size_t i = 0; i < leaves_.size(); ++i) {
        leaves_[i].average = proxy(kept[2 * i].ptr())->data;
        averaged_.add(leaves_[i].average, leaves_[i].bytes());
    }
    averaged_.sort();
    averages_ = kept;
}

} // namespace stepsize
