// Compiled once per instruction set, as kernels.cpp: rules that are made of products of matrices.
#include <stddef.h>
#include <stdint.h>

#include "core/whole.hpp"

namespace stepsize {
namespace {
#define RULE(name, slots, ...)                                                                     \
    struct name##Numbers {                                                                         \
        double __VA_ARGS__;                                                                        \
    };
#include "rules/matrices.def"
#undef RULE
} // namespace
} // namespace stepsize

#include "rules/muon.hpp"

namespace stepsize {
namespace {

#define RULE(name, slots, ...)                                                                     \
    {describe<name, name##Numbers, slots>(#name, #__VA_ARGS__),                                    \
     {name##Matrix<float>::scratch, name##Matrix<double>::scratch},                                \
     {name##Matrix<float>::run, name##Matrix<double>::run}},
constexpr WholeRule rules[] = {
#include "rules/matrices.def"
};
#undef RULE

template <class F> void product(const void* a, const void* b, void* c, size_t rows, size_t columns,
                                size_t depth, size_t strip) {
    const Product<F> whole = {rows,
                              columns,
                              depth,
                              {static_cast<const F*>(a), depth},
                              {static_cast<const F*>(b), columns},
                              {static_cast<F*>(c), columns}};
    whole.compute(strip);
}

#define STEPSIZE_JOIN_(a, b) a##b
#define STEPSIZE_JOIN(a, b) STEPSIZE_JOIN_(a, b)

} // namespace

extern const WholeTable STEPSIZE_JOIN(whole_, STEPSIZE_TARGET_NAME);
const WholeTable STEPSIZE_JOIN(whole_, STEPSIZE_TARGET_NAME) = {
    rules,
    int(sizeof rules / sizeof rules[0]),
    {strip_columns<float>, strip_columns<double>},
    {product<float>, product<double>},
};

} // namespace stepsize
