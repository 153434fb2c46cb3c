// Compiled once per instruction set. Everything is in an anonymous namespace and no std header with
// code is used, so that each object exports its table and nothing else.
#include <stddef.h>
#include <stdint.h>

#include "core/table.hpp"

namespace stepsize {
namespace {
#define RULE(name, slots, ...)                                                                     \
    struct name##Numbers {                                                                         \
        double __VA_ARGS__;                                                                        \
    };
#include "rules/rules.def"
#undef RULE
} // namespace
} // namespace stepsize

#include "kernels/look.hpp"
#include "kernels/schedule.hpp"
#include "rules/adam.hpp"
#include "rules/adam_momentum.hpp"
#include "rules/adam_order.hpp"
#include "rules/adam_scale.hpp"
#include "rules/adaptive.hpp"
#include "rules/averaging.hpp"
#include "rules/dadapt.hpp"
#include "rules/dual_averaging.hpp"
#include "rules/factored.hpp"
#include "rules/layerwise.hpp"
#include "rules/loss_based.hpp"
#include "rules/momentum.hpp"
#include "rules/parameter_free.hpp"
#include "rules/prodigy.hpp"
#include "rules/schedule_free.hpp"
#include "rules/sign.hpp"

namespace stepsize {
namespace {

#define RULE(name, slots, ...)                                                                     \
    with_matrices<name>(describe<name, name##Numbers, slots>(#name, #__VA_ARGS__)),
// Constant data: a table that had to be computed would run this instruction set at load time.
constexpr Rule rules[] = {
#include "rules/rules.def"
};
#undef RULE

#define STEPSIZE_STRING_(word) #word
#define STEPSIZE_STRING(word) STEPSIZE_STRING_(word)
#define STEPSIZE_JOIN_(a, b) a##b
#define STEPSIZE_JOIN(a, b) STEPSIZE_JOIN_(a, b)

} // namespace

extern const Table STEPSIZE_JOIN(table_, STEPSIZE_TARGET_NAME);
const Table STEPSIZE_JOIN(table_, STEPSIZE_TARGET_NAME) = {
    STEPSIZE_STRING(STEPSIZE_TARGET_NAME),
    rules,
    int(sizeof rules / sizeof rules[0]),
    {sum_of_squares<float>, sum_of_squares<double>, half_sum_of_squares<Float16>,
     half_sum_of_squares<Bfloat16>},
    {all_finite<float>, all_finite<double>, half_all_finite<Float16>, half_all_finite<Bfloat16>},
    {largest<float>, largest<double>, half_largest<Float16>, half_largest<Bfloat16>},
    sum_lanes,
    {constrain_span<float>, constrain_span<double>},
    {look<float>, look<double>},
    power,
    evaluate_schedule,
};

} // namespace stepsize
