// The part of a plan for leaves that a rule updates as a whole.
#pragma once

#include <memory>
#include <new>
#include <vector>

#include "bind/engine/leaves.hpp"

namespace stepsize {

// The fields of a rule for one step, shared by leaves that have the same ones.
struct alignas(64) BoundFields {
    unsigned char fields[max_bound_rule];
    Prologue prologue;
    size_t leaf; // one of them
};

// Small leaves are shared among threads, each of them done by one; of large ones the products are.
class WholePlan {
  public:
    WholePlan(Leaves& leaves, const std::vector<BoundFields>& bound)
        : leaves_(leaves), bound_(bound) {}

    void clear();
    void add(const Leaf& leaf, const void* gradient, size_t bound);
    bool empty() const { return wholes_.empty(); }
    void finish(); // after the last leaf: takes the memory that a step needs
    void update();

  private:
    struct WholeLeaf {
        size_t leaf, bound, work, bytes;
        WholeView view;
    };
    struct Freed {
        void operator()(char* memory) const { ::operator delete[](memory, std::align_val_t(64)); }
    };

    void run(WholeLeaf& whole, char* scratch, bool shared);

    Leaves& leaves_;
    const std::vector<BoundFields>& bound_; // the plan's
    std::vector<WholeLeaf> wholes_;
    std::vector<size_t> small_, large_;
    size_t small_work_ = 0;
    size_t hands_ = 0; // how many small leaves may be in work at once
    size_t bytes_ = 0; // of scratch memory for each of these
    std::unique_ptr<char[], Freed> memory_;
    size_t held_ = 0;
};

} // namespace stepsize
