// The work of one step: its chunks, the fields of their rules, and their execution.
#pragma once

#include <vector>

#include "bind/engine/gradients.hpp"
#include "bind/engine/matrices.hpp"

namespace stepsize {

// The inputs of a step that are the same for all rules.
struct StepTerms {
    double scale; // of gradients
    double limit; // of an element after that
    double share; // weight of the fused EMA update, below 0: none
    int64_t step; // updates before this one
};

// What asks the other ranks for their part of a sum; null: all is here.
struct Over {
    const Host* norms; // of statistics
    const Host* sums;  // that rules take before their update
};

// The layout stays valid while no parameter and no gradient changes its address.
class Plan {
  public:
    Plan(Leaves& leaves, GradientSource& gradients)
        : leaves_(leaves), gradients_(gradients), matrices_(leaves, bound_) {}
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    // To be called when leaves may share their fields differently or have new averages.
    void invalidate() { valid_ = false; }

    // Leaves that are contiguous in memory form one span, unless sums are taken leaf by leaf.
    // Averages, if given, are updated in the same pass.
    void lay_out(bool by_leaf, bool averages);
    void lay_out_leaf(size_t i); // alone, for one step
    bool averages() const { return averages_; }
    size_t elements() const { return elements_; }
    bool has_wholes() const { return matrices_.has_wholes(); } // whose update frees the interpreter

    // Global norm of the gradients, and whether they are finite.
    double gradient_norm(bool& finite, const Host* ranks);
    bool all_finite(int octaves) const; // so many below infinity

    // Runs the rules and returns the sums of squares over all leaves, if they are asked for. If
    // only the update pass is left and may be deferred, it is: the caller runs the `waiting`
    // chunks.
    Sums move(const StepTerms& terms, bool stats, bool may_wait, const Over& over);
    size_t waiting() const { return waiting_ ? chunks_.size() : 0; }
    void run_chunk(size_t i, Sums* sums) const;

  private:
    // A range of one leaf's gradient, the unit of norms and checks.
    struct Block {
        const char* data;
        size_t size;
        Dtype dtype;
        size_t leaf;
    };
    using Parts = std::array<double, max_sums + 1>;

    void clear(bool by_leaf, bool averages);
    size_t add(size_t i);
    bool runs_on(size_t i, const Chunk& open, size_t bound) const;
    Chunk open_at(size_t i, size_t bound) const;
    void close(const Chunk& open);
    void follow_gradients();
    size_t bound_for(const Leaf& leaf);
    void bind(const StepTerms& terms, bool again);
    Prologue prologue_of(const Group& group, const StepTerms& terms) const;
    void look(const StepTerms& terms, bool squares, const Host* ranks);
    bool look(const StepTerms& terms, bool squares, const Host* ranks, double unit);
    void take(Leaf& leaf, bool squares, double sum, double size, double unit);
    void measure(const StepTerms& terms, const Host* ranks);
    void settle_over(const Host& ranks, int64_t step, const std::vector<Parts>& parts);
    void settle(Leaf& leaf, int64_t step, double* sums);
    Sums total_over(const Host& ranks) const;
    double total_of_squares(double scale, const Host* ranks);

    Leaves& leaves_;
    GradientSource& gradients_;
    bool valid_ = false;
    bool follows_ = false; // a chunk is a block of one leaf, whatever the addresses of gradients
    bool by_leaf_ = false;
    bool ahead_ = false;
    bool averages_ = false;
    bool waiting_ = false;
    size_t elements_ = 0;
    std::vector<Chunk> chunks_;
    std::vector<BoundFields> bound_;
    std::vector<std::array<int, dtype_count>> last_bound_; // of each group, or -1
    MatrixPlan matrices_;
    std::vector<Block> blocks_;
    std::vector<double> block_sums_;
    std::vector<Sums> sums_;
    std::vector<Parts> parts_;    // of each chunk, in the first of two passes
    std::vector<Parts> together_; // of all leaves that share their scalars,
    std::vector<Leaf*> last_;     // and the last of these
};

} // namespace stepsize
