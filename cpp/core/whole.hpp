// Rules that update a leaf as a whole, by products of matrices, and what an instruction set
// provides for them.
#pragma once

#include "core/table.hpp"

namespace stepsize {

constexpr int max_whole_slots = 10; // state arrays of a leaf that is updated as a whole

// Terms of a product of matrices that are added up before they join the total.
constexpr size_t depth_block = 256;

// `share` calls job(context, i) for every i below count, on several threads if the work is worth
// them: about as much as an elementwise update of so many elements.
struct WholeView {
    void* x;
    const void* g;
    void* slots[max_whole_slots];
    size_t slot_sizes[max_whole_slots]; // numbers in each
    size_t lengths[max_axes];
    int axes, slot_count;
    size_t size;
    void* scratch; // as many bytes as the rule asks for, from a cache line on
    void (*share)(size_t count, size_t work, void (*job)(void*, size_t), void* context);
};

struct WholeRule {
    Rule rule; // its name and numbers
    size_t (*scratch[dtype_count])(const double* numbers, const WholeView& view); // bytes
    void (*run[dtype_count])(const double* numbers, int64_t t, double* scalars,
                             const Prologue& prologue, const WholeView& view);
};

// The product is c = a b, row by row, of rows x depth and depth x columns numbers; one strip of its
// columns at a time.
struct WholeTable {
    const WholeRule* rules;
    int rule_count;
    size_t strip_columns[dtype_count];
    void (*product[dtype_count])(const void* a, const void* b, void* c, size_t rows, size_t columns,
                                 size_t depth, size_t strip);
    // Of n x n matrices; the first argument is overwritten, `work` is of (n + 4) n numbers.
    void (*eigen)(double* a, double* values, double* vectors, size_t n, double* work);
    void (*orthonormal)(double* a, double* q, size_t n, double* work);
    void (*solve_turned[dtype_count])(const void* q, void* b, size_t n, size_t columns);
};

} // namespace stepsize
