// Whether arrays share memory.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

namespace stepsize {

struct Interval {
    const char *begin, *end;
};

template <class T> void sort_by_address(std::vector<T>& intervals) {
    std::sort(intervals.begin(), intervals.end(),
              [](const T& a, const T& b) { return a.begin < b.begin; });
}

// Memory of arrays that do not overlap, in order of address.
class Occupied {
  public:
    void add(const char* begin, size_t bytes) {
        if (bytes)
            sorted_.push_back({begin, begin + bytes});
    }
    void sort() { sort_by_address(sorted_); }

    // Whether memory that is read overlaps any of it. Reading an array in place, where it is
    // written, is harmless.
    bool meets(const char* begin, size_t bytes, const char* own) const {
        const char* end = begin + bytes;
        auto after =
            std::lower_bound(sorted_.begin(), sorted_.end(), end,
                             [](const Interval& a, const char* at) { return a.begin < at; });
        while (after != sorted_.begin()) {
            --after;
            if (after->end <= begin)
                return false;
            if (after->begin != own || begin != own)
                return true;
        }
        return false;
    }

  private:
    std::vector<Interval> sorted_;
};

// How one call accesses a range of memory, and by which of its arguments.
struct Access : Interval {
    size_t argument, leaf;
    bool written;

    bool operator==(const Access& other) const {
        return begin == other.begin && end == other.end && written == other.written;
    }
};

// The first two that share memory that one of them writes, or nulls.
inline std::pair<const Access*, const Access*> find_conflict(std::vector<Access>& accesses) {
    sort_by_address(accesses);
    const Access *furthest = nullptr, *written = nullptr;
    for (const Access& next : accesses) {
        const Access* before = next.written ? furthest : written;
        if (before && next.begin < before->end)
            return {&next, before};
        if (!furthest || next.end > furthest->end)
            furthest = &next;
        if (next.written && (!written || next.end > written->end))
            written = &next;
    }
    return {nullptr, nullptr};
}

} // namespace stepsize
