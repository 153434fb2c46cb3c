// What an instruction set provides: its rules, and the loops that belong to no rule, as constant
// tables of functions.
#pragma once

#include "core/types.hpp"

namespace stepsize {

struct Rule {
    const char* name;
    const char* numbers; // names of the hyperparameters, in order, "lr, beta1, beta2"
    int slots;
    // Turns one step's hyperparameters into the fields the loop reads; t counts from 1.
    void (*prepare[dtype_count])(const double* numbers, int64_t t, double* scalars,
                                 const Prologue& prologue, void* bound);
    void (*run[dtype_count])(const void* bound, const Span& span, Sums* sums);

    // Rules of two passes: the first takes sums over the elements, settle turns them into scalars,
    // and prepare reads these. sums is 0 for all other rules. settle gets the number of elements
    // after the sums.
    int sums;
    void (*measure[dtype_count])(const void* bound, const Span& span, double* sums);
    void (*settle)(const double* numbers, int64_t t, double* scalars, const double* sums);

    // Rules that see leaves of two axes or more as matrices; null for all others, which take every
    // leaf flat. row_sums and row_norms are passes before settle, factorize comes between them, one
    // matrix at a time; update is the last pass and merge_axes what follows it.
    bool by_axis; // one matrix, all axes but the last as rows; else the last two axes form each
    void (*row_sums[dtype_count])(const void* bound, const MatrixView& view, size_t panel);
    void (*factorize[dtype_count])(const void* bound, const MatrixView& view, size_t matrix);
    void (*row_norms[dtype_count])(const void* bound, const MatrixView& view, size_t panel);
    void (*update[dtype_count])(const void* bound, const MatrixView& view, size_t panel);
    void (*merge_axes[dtype_count])(const MatrixView& view);
};

namespace schedule {
struct Node;
}

// What one instruction set provides.
struct Table {
    const char* target;
    const Rule* rules;
    int rule_count;
    // Sum of squares of a block of at most chunk_size elements; 16 lanes, fixed tree.
    double (*sum_of_squares[given_dtype_count])(const void* data, size_t size, double scale);
    // Whether all lie so many octaves below infinity; 1 asks for finite numbers alone.
    bool (*all_finite[given_dtype_count])(const void* data, size_t size, int octaves);
    double (*largest[given_dtype_count])(const void* data, size_t size);
    double (*sum_lanes)(const double* values, size_t size);
    // What follows the update of parameters in `span.x`: a soft threshold, and bounds.
    void (*constrain[dtype_count])(const Span& span);
    double (*look[dtype_count])(const Look& look, const Span& span);
    double (*power)(double base, int64_t n);
    // Values of the schedule tree rooted at `root` for n steps; see core/schedule.hpp for scratch.
    void (*evaluate)(const schedule::Node* nodes, size_t root, const double* steps, double* out,
                     size_t n, double* scratch);
};

} // namespace stepsize
