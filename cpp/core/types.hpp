// The plain structs that cross the border between the kernels (compiled once per instruction set)
// and everything else. No function bodies here: an inline function compiled with AVX-512 flags
// could be the copy the linker keeps for old processors.
#pragma once

#include <cstddef>
#include <cstdint>

// Microsoft's compiler has some of GCC's builtins by other names. C functions and constants: the
// linker has one copy of them, whatever the instruction set.
#if defined(_MSC_VER) && !defined(__clang__)
#include <float.h>
#include <string.h>
#define __builtin_memcpy memcpy
#define __builtin_memset memset
#define __builtin_inf() __builtin_huge_val()
#define __builtin_prefetch(address) ((void)(address)) // targets.cpp asks for none there
#define __FLT_MAX__ FLT_MAX
#define __DBL_MAX__ DBL_MAX
#define __FLT_MIN__ FLT_MIN
#define __DBL_MIN__ DBL_MIN
#endif

namespace stepsize {

using std::int32_t;
using std::int64_t;
using std::size_t;
using std::uint32_t;
using std::uint64_t;

// The first two are computed in; gradients and parameters may also have the others.
enum class Dtype : int32_t { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };
constexpr int dtype_count = 2;
constexpr int given_dtype_count = 4;

constexpr int max_slots = 8;    // state arrays of one leaf
constexpr int max_numbers = 24; // hyperparameters of one rule
constexpr int max_scalars = 8;  // scalars a rule keeps for one leaf
constexpr int max_sums = 3;     // sums between the passes of a rule
constexpr int max_axes = 8;     // of a leaf that a rule sees as matrices
constexpr size_t max_bound_rule = 256;

// Elements of one chunk: small enough to stay in the second-level cache with its state, and the
// block of every reduction, so sums do not depend on who computes them.
constexpr size_t chunk_size = 16384;

// What the loop does to gradient and parameter before the rule sees them:
// g = clamp(g * scale, -limit, limit) + decay * x, then x = x * shrink. And after it: where
// cautious is 1 or 3 a move along g is undone, and where it is 2 or 3 the decay comes after the
// move, x = x - shrink * before, unless the move leads away from 0; a fused EMA update moves an
// average towards the parameter, with the weight `follow`. With 4 more, the rule sees the gradient
// that `Correction` says.
struct Prologue {
    double scale, limit, decay, shrink, cautious, follow;
};

// MARS (Yuan et al. 2024, arXiv:2411.10438, Algorithm 2): what a rule sees is (g + gain * (g -
// last)) * factor. The last gradient is in the slot that follows those of the rule.
struct Correction {
    double gain, factor;
};

// The storage format of a slot. native: the type the rule computes in. The last two have one byte
// per number and a float32 scale per tile, see kernels/quantization.hpp.
enum class Storage : int32_t { native = 0, bfloat16 = 1, signed8 = 2, unsigned8 = 3 };

// Parameters in half precision: what the caller reads and writes. With the bytes in `low`, a signed
// number for each, they are split master weights.
struct Half {
    void* data; // null: none
    Dtype dtype;
    void* low; // null: none
    size_t low_bytes;
    bool stochastic; // how they are rounded, if not to nearest
};

struct Slot {
    void* data;
    float* scales;
    Storage storage;
};

// Elements that share a scale, and the step of the loop.
constexpr size_t tile = 256;

// Constraints of parameters: two numbers for all elements, or two for each, of the type they are
// computed in. Null where there are none; with an L1 penalty alone they are infinite.
struct Bounds {
    const void *low, *high;
    const double* threshold; // of the penalty, in this step
    bool each;
};

// A contiguous range of one leaf: its parameters, gradients and state.
struct Span {
    void* x; // null: the parameters are in `half` alone
    const void* g;
    Dtype g_dtype;
    Half half;
    void* average; // the EMA of the parameters in x, or null
    Bounds bounds;
    bool followed; // by one of these two, each tile
    const Correction* correction;
    size_t size;
    Slot slots[max_slots];
    bool ahead;     // prefetch ahead of the loop
    bool coded;     // some operand is not native
    uint32_t place; // index of the leaf, and
    uint32_t first; // of its first tile in the leaf: rounding depends on both
};

// What is summed up over a leaf before its update: the squares of gradients as the rule sees them,
// corrected if `last` is a slot; or their ratios to the second moment, bias corrected and at least
// `least`, that the update will have in the slot `squares`. No slot: -1.
struct Look {
    Prologue prologue;
    Correction correction;
    int last, squares;
    double beta2, unbias, least;
};

// Sums of squares over a chunk, taken in the update pass.
struct Sums {
    double grad, param, update;
    // The same of numbers times 2^600, where the sum before is next to nothing, and of numbers over
    // 2^600, where it is beyond measure: squares leave the range of double long before the numbers.
    double small[3], large[3];
};
constexpr double least_sum = 1e-280, most_sum = 1e200; // between them nothing is summed up twice

// Gradients that are checked lie so many octaves below infinity, so that averages, differences and
// sums of a few stay finite; 1 asks for finite numbers alone.
constexpr int headroom = 4;

// A leaf of two axes or more as matrices, one after the other, for rules that keep statistics by
// row and column. A panel is a block of whole rows of one matrix: columns are reduced panel by
// panel, so the result does not depend on the threads.
struct MatrixView {
    void* x;
    const void* g;
    void* slot;               // state of the parameter's size, or null
    void* vectors[max_axes];  // all other state
    size_t lengths[max_axes]; // of the leaf's axes
    int axes;
    size_t matrices, rows, columns;
    size_t panels, panel_rows; // of one matrix
    // Kept between the passes, in the loop's type except for the sums:
    double* row_sums;     // the first sum of all rows, then the next sum
    void* column_parts;   // one row per panel: sums, or numbers of the loop's type
    void* row_factors;    // one per row
    void* column_factors; // one row per matrix
};
constexpr int max_row_sums = 2;

} // namespace stepsize
