// The part of a plan for leaves that a rule sees as matrices: their layout and their passes.
#pragma once

#include <vector>

#include "bind/engine/wholes.hpp"

namespace stepsize {

// A chunk of a span: a range of memory that may extend over several leaves.
struct Chunk {
    size_t leaf;  // the first one
    size_t bound; // index of its fields
    const Rule* rule;
    Dtype dtype;
    bool matrix; // of a leaf seen as matrices, listed only for its statistics
    Span span;
};

class MatrixPlan {
  public:
    MatrixPlan(Leaves& leaves, const std::vector<BoundFields>& bound)
        : leaves_(leaves), bound_(bound), wholes_(leaves, bound) {}

    void clear();
    void add(const Leaf& leaf, const void* gradient, size_t bound);
    bool empty() const { return matrices_.empty() && wholes_.empty(); }

    bool has_wholes() const { return !wholes_.empty(); }
    void finish() { wholes_.finish(); } // after the last one

    // The memory that statistics need.
    void reserve(const std::vector<Chunk>& chunks, bool stats);
    // Everything before the last pass, on several threads if `elements` is large enough.
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
    // A range of the panels of one leaf.
    struct RowPanels {
        size_t leaf, first, last;
    };

    template <class Pass> void sweep(size_t elements, const Pass& pass) const;
    void settle(const MatrixLeaf& matrix);

    Leaves& leaves_;
    const std::vector<BoundFields>& bound_; // the plan's
    std::vector<MatrixLeaf> matrices_;
    std::vector<RowPanels> panels_;
    std::vector<std::vector<double>> scratch_; // per leaf, what one pass leaves for the next
    std::vector<std::vector<double>> before_;  // per chunk, for statistics
    std::vector<double> after_, terms_;
    WholePlan wholes_;
};

// Rows of a matrix whose column sums are taken together.
size_t panel_rows(size_t rows, size_t columns);

} // namespace stepsize
