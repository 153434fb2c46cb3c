// Compiled once per instruction set, as kernels.cpp: rules that are made of products of matrices.
#include <stddef.h>
#include <stdint.h>

#include "core/whole.hpp"

namespace stepsize {
namespace {
#define RULE(name, ...)                                                                            \
    struct name##Numbers {                                                                         \
        double __VA_ARGS__;                                                                        \
    };
#include "rules/matrices.def"
#undef RULE
} // namespace
} // namespace stepsize

#include "rules/kron.hpp"
#include "rules/muon.hpp"
#include "rules/shampoo.hpp"
#include "rules/soap.hpp"

namespace stepsize {
namespace {

#define RULE(name, ...)                                                                            \
    {{#name, #__VA_ARGS__, 0, {}, {}, 0, {}, nullptr, false, {}, {}, {}, {}, {}},                  \
     {name<float>::scratch, name<double>::scratch},                                                \
     {name<float>::run, name<double>::run}},
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

template <class F> void solve(const void* q, void* b, size_t n, size_t columns) {
    solve_turned(static_cast<const F*>(q), static_cast<F*>(b), n, columns);
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
    eigen,
    orthonormal,
    {solve<float>, solve<double>},
};

} // namespace stepsize
