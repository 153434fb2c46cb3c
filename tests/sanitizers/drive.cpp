// drive [--rounds N] [--digests] [--each] [--fault KIND]: every rule, dtype and length under
// options that change from case to case, the loops of no rule and schedules, on every instruction
// set and several threads. The digests of a case must agree. --digests prints them, so that
// machines can be compared;
// --fault commits one, so that a sanitizer can be seen to find it.
#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

#include "checks.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace checks {
namespace {

constexpr size_t sizes[] = {1,   7,   15,  16,   17,   31,         63,
                            255, 256, 257, 1000, 4099, chunk_size, 3 * chunk_size + 5};
constexpr int thread_counts[] = {1, 2, 3, 5};

class Report {
  public:
    Report(bool shown, bool each) : shown_(shown), each_(each) {}

    // The case on the best instruction set and one thread, and on all others.
    template <class Check> void check(const std::string& name, Source source, const Check& run) {
        const std::vector<const Table*>& tables = available_tables();
        set_thread_count(1);
        const uint64_t expected = run(*tables[0], source);
        all_.bytes(&expected, sizeof expected);
        if (each_)
            show(expected, name);
        compare(name, *tables[0], thread_counts[1 + cases_ % 3], expected, source, run);
        for (size_t k = 1; k < tables.size(); ++k)
            compare(name, *tables[k], thread_counts[(cases_ + k) % 4], expected, source, run);
        ++cases_;
    }
    void close(const std::string& title) {
        if (shown_)
            show(all_.value(), title);
        all_ = Digest();
    }
    int finish() const {
        std::printf("%zu cases on %zu instruction sets\n%zu passed, %zu failed\n", cases_,
                    available_tables().size(), cases_ - failed_, failed_);
        return failed_ ? 1 : 0;
    }

  private:
    static void show(uint64_t digest, const std::string& name) {
        std::printf("%016llx %s\n", static_cast<unsigned long long>(digest), name.c_str());
    }
    template <class Check> void compare(const std::string& name, const Table& table, int threads,
                                        uint64_t expected, Source source, const Check& run) {
        set_thread_count(threads);
        if (run(table, source) == expected)
            return;
        ++failed_;
        std::printf("differs: %s on %s, %d threads\n", name.c_str(), table.target, threads);
    }

    const bool shown_, each_;
    Digest all_;
    size_t cases_ = 0, failed_ = 0;
};

void check_rule(Report& report, int rule, Dtype dtype, uint64_t round) {
    const Rule& named = available_tables()[0]->rules[rule];
    const std::string title =
        std::string(named.name) + (dtype == Dtype::float32 ? " float32" : " float64");
    const auto source = [=](size_t i) {
        return Source((round << 40) + (uint64_t(rule) << 20) + (uint64_t(dtype) << 16) + i);
    };
    size_t count = 0;
    for (const size_t size : sizes) {
        const std::string name = title + " of " + std::to_string(size);
        report.check(name, source(count++), [=](const Table& table, Source from) {
            return flat(table, rule, dtype, size, from);
        });
    }
    for (size_t shape = 0; named.update[0] && shape < shape_count; ++shape) {
        const std::string name = title + " of shape " + std::to_string(shape);
        report.check(name, source(count++), [=](const Table& table, Source from) {
            return matrices(table, rule, dtype, shape, from);
        });
    }
    report.close(title);
}

void check_whole_rule(Report& report, int rule, Dtype dtype, uint64_t round) {
    const std::string title =
        std::string(whole_rule_name(rule)) + (dtype == Dtype::float32 ? " float32" : " float64");
    for (size_t shape = 0; shape < whole_shape_count; ++shape)
        for (uint64_t turn = 0; turn < 6; ++turn) // for its switches
            report.check(title + " of shape " + std::to_string(shape),
                         Source((round << 40) + (uint64_t(1) << 36) + (uint64_t(rule) << 20) +
                                (uint64_t(dtype) << 16) + (shape << 8) + turn),
                         [=](const Table& table, Source from) {
                             return wholes(table, rule, dtype, shape, from);
                         });
    report.close(title);
}

int drive(uint64_t rounds, bool shown, bool each) {
    set_back_off(false);
    Report report(shown, each);
    for (uint64_t round = 0; round < rounds; ++round) {
        for (int rule = 0; rule < available_tables()[0]->rule_count; ++rule)
            for (const Dtype dtype : {Dtype::float32, Dtype::float64})
                check_rule(report, rule, dtype, round);
        for (int rule = 0; rule < whole_rule_count(); ++rule)
            for (const Dtype dtype : {Dtype::float32, Dtype::float64})
                check_whole_rule(report, rule, dtype, round);
        for (const size_t n : {1, 2, 3, 7, 16, 17, 40, 65})
            report.check(
                "decompositions of " + std::to_string(n), Source((round << 40) + n),
                [=](const Table& table, Source from) { return decompositions(table, n, from); });
        report.close("decompositions");
        for (const size_t size : sizes)
            report.check(
                "reductions of " + std::to_string(size), Source((round << 40) + size),
                [=](const Table& table, Source from) { return reductions(table, size, from); });
        report.close("reductions");
        for (uint64_t tree = 0; tree < 200; ++tree)
            report.check("tree " + std::to_string(tree), Source((round << 40) + tree),
                         [](const Table& table, Source from) { return trees(table, from); });
        report.close("schedules");
    }
    return report.finish();
}

// What each sanitizer is there for, done on purpose.
int fault(const std::string& kind) {
    if (kind == "address") { // a gradient that is shorter than its leaf
        const Block x(400, 0), g(396, 0);
        std::vector<float> copy(100);
        std::memcpy(copy.data(), g.data(), x.bytes());
        return copy[99] == 1;
    }
    if (kind == "leak") {
        static volatile size_t bytes = 100;
        char* volatile lost = new char[bytes];
        lost = nullptr;
        return lost != nullptr;
    }
    if (kind == "undefined") {
        volatile int32_t most = INT32_MAX;
        return most + 1 == 0;
    }
    if (kind == "thread") { // two chunks write one sum, at the same time
        double sum = 0;
        std::atomic<int> arrived{0};
        set_back_off(false);
        set_thread_count(2);
        share(2, [&](size_t i) {
            arrived.fetch_add(1, std::memory_order_relaxed);
            while (arrived.load(std::memory_order_relaxed) < 2)
                std::this_thread::yield();
            sum += double(i);
        });
        return sum == 2;
    }
    std::printf("no fault is called '%s'\n", kind.c_str());
    return 2;
}

int main_with(const std::vector<std::string>& words) {
    uint64_t rounds = 1;
    bool shown = false, each = false;
    for (size_t i = 0; i < words.size(); ++i) {
        const bool more = i + 1 < words.size();
        if (words[i] == "--digests")
            shown = true;
        else if (words[i] == "--each")
            each = true;
        else if (words[i] == "--rounds" && more)
            rounds = std::stoull(words[++i]);
        else if (words[i] == "--fault" && more)
            return fault(words[i + 1]);
        else
            return std::printf("drive [--rounds N] [--digests] [--each] [--fault KIND]\n"), 2;
    }
    return drive(rounds, shown, each);
}

} // namespace
} // namespace checks
} // namespace stepsize

int main(int count, char** words) {
    return stepsize::checks::main_with({words + 1, words + count});
}
