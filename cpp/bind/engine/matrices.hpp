// The part of a plan for leaves that a rule sees as matrices: their layout and their passes.
#pragma once

#include <vector>

#include "bind/engine/leaves.hpp"

namespace stepsize {

// The fields of a rule for one step, shared by leaves that have the same ones.
struct alignas(64) BoundFields {
    unsigned char fields[max_bound_rule];
    size_t leaf; // one of them
};

// A chunk of a span: a stretch of memory that may run on from leaf to leaf.
struct Chunk {
    size_t leaf;  // the first one
    size_t bound; // index of its fields
    const Rule* rule;
    Dtype dtype;
    bool matrix; // of a leaf seen as matrices: here for its statistics alone
    Span span;
};

class MatrixPlan {
  public:
    MatrixPlan(Leaves& leaves, const std::vector<BoundFields>& bound)
        : leaves_(leaves), bound_(bound) {}

    void clear();
    void add(const Leaf& leaf, const void* gradient, size_t bound);
    bool empty() const { return matrices_.empty(); }

    // Everything before the last pass, on threads where `elements` pay for them.
    void prepare(size_t elements);
    // The last pass; with statistics, into the sums of the chunks.
    void update(size_t elements, const std::vector<Chunk>& chunks, std::vector<Sums>& sums);

  private:
    struct MatrixLeaf {
        size_t leaf, bound;
        const Rule* rule;
        Dtype dtype;
        MatrixView view;
    };
    // A stretch of the panels of one of them.
    struct RowPanels {
        size_t leaf, first, last;
    };

    template <class Pass> void sweep(size_t elements, const Pass& pass) const;
    void settle(const MatrixLeaf& matrix);

    Leaves& leaves_;
    const std::vector<BoundFields>& bound_; // the plan's
    std::vector<MatrixLeaf> matrices_;
    std::vector<RowPanels> panels_;
    std::vector<std::vector<double>> scratch_; // of each, what its passes tell each other
};

// Rows of a matrix whose sums by column are taken together.
size_t panel_rows(size_t rows, size_t columns);

} // namespace stepsize
