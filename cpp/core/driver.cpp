#include "core/driver.hpp"

#include "core/fpenv.hpp"
#include "core/limits.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define STEPSIZE_HAS_FORK
#endif

namespace stepsize {
namespace {

std::atomic<int> requested{0};
std::atomic<int> allowed_then{0}; // when that number was set
std::atomic<bool> backs_off{true};

std::atomic<int> forks{0};
std::thread::id forked_by;

#ifdef _OPENMP

// Processors that the control group grants, or a large number.
int quota() {
    double limit = 0, period = 0;
    if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        const int found = std::fscanf(file, "%lf %lf", &limit, &period);
        std::fclose(file);
        if (found == 2 && limit > 0 && period > 0)
            return std::max(1, int(limit / period + 0.5));
    }
    return 1 << 20;
}

// More than this many threads only wait for each other, and no system gives a million.
int most_threads() {
    static const int count = std::max(64, 4 * omp_get_num_procs());
    return count;
}

int granted() {
    static const int count = std::min(quota(), most_threads());
    return count;
}

// What OpenMP allows the calling thread: ours and the copies that other libraries use.
int allowed() { return std::max(1, std::min(omp_get_max_threads(), openmp_limit())); }

// Below this many elements a second thread costs more than it saves. A sleeping thread takes some
// thirty microseconds to wake.
size_t parallel_elements() {
    static const char* policy = std::getenv("OMP_WAIT_POLICY");
    static const bool sleeps = policy && (policy[0] == 'p' || policy[0] == 'P');
    return sleeps ? 4 * 65536 : 65536;
}

// Work stealing: each thread has a range of the jobs, the same one in every pass of every step,
// since its caches hold some of that memory; when it is done it takes jobs from the ranges of
// others.
struct alignas(64) Range {
    std::atomic<size_t> next{0};
    size_t end = 0;
};

// Back-off under oversubscription: where other programs hold the processors, a team waits for its
// last thread to be scheduled, and a step of microseconds takes milliseconds. After a step in which
// the team took longer than its first thread alone would have, steps use one thread for 10 times
// the time lost; then the team is tried again. Not held back is work so long that the team gains
// even if it loses as much time again: what is lost in a short pass of a step says little about it.
class BackOff {
    using Clock = std::chrono::steady_clock;
    static std::atomic<int64_t> alone_until;
    static std::atomic<double> long_work;
    const int64_t start = now();

  public:
    static int64_t now() {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
            .count();
    }
    bool over(size_t elements) const {
        return start >= alone_until || double(elements) > long_work || !backs_off;
    }
    // The first thread has done `own` of `count` jobs and finished at `rested`.
    void judge(size_t count, size_t elements, size_t own, int64_t rested) const {
        if (own == 0)
            return;
        const double alone = double(rested - start) * double(count) / double(own);
        const int64_t end = now();
        const double lost = double(end - start) - alone;
        if (lost > 0) {
            long_work = double(elements) * (2 * lost / std::max(alone, 1.0));
            alone_until = end + int64_t(10 * lost);
        }
    }
};
std::atomic<int64_t> BackOff::alone_until{0};
std::atomic<double> BackOff::long_work{0};

void run_team(int threads, size_t count, size_t elements, void (*job)(void*, size_t),
              void* context) {
    const size_t team = size_t(threads);
    const size_t few = count / (team * 64) + 1;
    const std::unique_ptr<Range[]> ranges(new (std::nothrow) Range[team]);
    if (!ranges) { // a step that has begun goes to its end
        for (size_t i = 0; i < count; ++i)
            job(context, i);
        return;
    }
    for (size_t k = 0; k < team; ++k) {
        ranges[k].next = count * k / team;
        ranges[k].end = count * (k + 1) / team;
    }
    const BackOff back_off;
    size_t own = 0;
    int64_t rested = 0;
#pragma omp parallel num_threads(threads)
    {
        const DefaultFloatingPoint environment;
        const size_t me = size_t(omp_get_thread_num());
        size_t done = 0;
        for (size_t k = 0; k < team; ++k) {
            Range& range = ranges[(me + k) % team];
            for (size_t i; (i = range.next.fetch_add(few)) < range.end;)
                for (const size_t end = std::min(i + few, range.end); i < end; ++i, ++done)
                    job(context, i);
        }
        if (me == 0) {
            own = done;
            rested = BackOff::now();
        }
    }
    back_off.judge(count, elements, own, rested);
}

#endif

} // namespace

bool has_openmp() {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
}

int thread_count() {
#ifdef _OPENMP
    if (fork_count() > 0) // libgomp hangs in the child of a process that has used threads
        return 1;
    const int chosen = requested, most = allowed();
    if (chosen == 0)
        return std::min(most, granted());
    // A limit that came after that number is the last word.
    return std::min({chosen, most_threads(), most < allowed_then ? most : chosen});
#else
    return 1;
#endif
}

void set_thread_count(int count) {
#ifdef _OPENMP
    allowed_then = fork_count() > 0 ? 1 : allowed(); // a child uses one, and asks no library
#endif
    requested = count;
}

void set_back_off(bool on) { backs_off = on; }

void watch_forks() {
#ifdef STEPSIZE_HAS_FORK
    pthread_atfork(nullptr, nullptr, [] {
        ++forks;
        forked_by = std::this_thread::get_id();
    });
#endif
}

int fork_count() { return forks.load(std::memory_order_relaxed); }

std::thread::id forking_thread() { return forked_by; }

void parallel_for(size_t count, size_t elements, void (*job)(void*, size_t), void* context) {
#ifdef _OPENMP
    if (count > 1 && elements >= parallel_elements()) {
        const int threads = thread_count();
        if (threads > 1 && BackOff().over(elements))
            return run_team(threads, count, elements, job, context);
    }
#endif
    (void)elements;
    const DefaultFloatingPoint environment;
    for (size_t i = 0; i < count; ++i)
        job(context, i);
}

} // namespace stepsize
