#include "core/targets.hpp"

#include <stdexcept>

#ifdef STEPSIZE_HAS_avx2
#include <cpuid.h>
#endif

namespace stepsize {

extern const Table table_baseline;
extern const WholeTable whole_baseline;
#ifdef STEPSIZE_HAS_avx2
extern const Table table_avx2;
extern const WholeTable whole_avx2;
#endif
#ifdef STEPSIZE_HAS_avx512
extern const Table table_avx512;
extern const WholeTable whole_avx512;
#endif

namespace {

#ifdef STEPSIZE_HAS_avx2
// Conversion of float16. Not every compiler knows it by name.
bool has_f16c() {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<const Table*> find_tables() {
    std::vector<const Table*> tables;
#ifdef STEPSIZE_HAS_avx512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_f16c())
        tables.push_back(&table_avx512);
#endif
#ifdef STEPSIZE_HAS_avx2
    if (__builtin_cpu_supports("avx2") && has_f16c())
        tables.push_back(&table_avx2);
#endif
    tables.push_back(&table_baseline);
    return tables;
}

const Table*& current() {
    static const Table* chosen = available_tables().front();
    return chosen;
}

bool& ahead() {
#if defined(STEPSIZE_HAS_avx2)
    static bool gains = __builtin_cpu_is("intel");
#else
    static bool gains = false;
#endif
    return gains;
}

} // namespace

const std::vector<const Table*>& available_tables() {
    static const std::vector<const Table*> tables = find_tables();
    return tables;
}

const Table& table() { return *current(); }

const WholeTable& whole_table() {
#ifdef STEPSIZE_HAS_avx512
    if (current() == &table_avx512)
        return whole_avx512;
#endif
#ifdef STEPSIZE_HAS_avx2
    if (current() == &table_avx2)
        return whole_avx2;
#endif
    return whole_baseline;
}

bool prefetches() { return ahead(); }

void set_prefetches(bool on) { ahead() = on; }

void choose_target(const std::string& name) {
    std::string names;
    for (const Table* candidate : available_tables()) {
        if (name == candidate->target) {
            current() = candidate;
            return;
        }
        names += (names.empty() ? "" : ", ") + std::string(candidate->target);
    }
    throw std::invalid_argument(
        "STEPSIZE_TARGET: '" + name +
        "' is not an instruction set of this build and processor; use one of " + names +
        ", or unset it for the best");
}

} // namespace stepsize
