// The same checks, steered by libFuzzer: the input chooses rule, dtype, length and every option. A
// digest that depends on the instruction set or the threads ends the process, and so does whatever
// a sanitizer finds.
#include <cstdio>

#include "checks.hpp"
#include "core/targets.hpp"

namespace {

using namespace stepsize;

template <class Check> void compare(checks::Source source, int threads, const Check& run) {
    set_thread_count(1);
    const std::vector<const Table*>& tables = available_tables();
    const uint64_t expected = run(*tables[0], source);
    for (const Table* table : tables) {
        set_thread_count(threads);
        if (run(*table, source) == expected)
            continue;
        std::fprintf(stderr, "differs on %s with %d threads\n", table->target, threads);
        std::abort();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    set_back_off(false);
    checks::Source source(data, size);
    const Table& first = *available_tables()[0];
    const size_t kind = source.below(10);
    const int rule = int(source.below(size_t(first.rule_count)));
    const Dtype dtype = Dtype(source.below(2));
    const size_t count = source.below(4) ? source.below(600) + 1 : source.below(3 * chunk_size) + 1;
    const int threads = 1 + int(source.below(5));
    if (kind == 0)
        compare(source, threads, [=](const Table& table, checks::Source from) {
            return checks::reductions(table, count, from);
        });
    else if (kind < 3)
        compare(source, threads,
                [](const Table& table, checks::Source from) { return checks::trees(table, from); });
    else if (kind == 3 && first.rules[rule].update[0])
        compare(source, threads, [=](const Table& table, checks::Source from) {
            return checks::matrices(table, rule, dtype, count % checks::shape_count, from);
        });
    else if (kind == 8)
        compare(source, threads, [=](const Table& table, checks::Source from) {
            return checks::wholes(table, rule % checks::whole_rule_count(), dtype,
                                  count % checks::whole_shape_count, from);
        });
    else if (kind == 9)
        compare(source, threads, [=](const Table& table, checks::Source from) {
            return checks::decompositions(table, 1 + count % 40, from);
        });
    else
        compare(source, threads, [=](const Table& table, checks::Source from) {
            return checks::flat(table, rule, dtype, count, from);
        });
    return 0;
}
