// The parallel loop over the chunks of one step. The only place that knows OpenMP.
#pragma once

#include <cstddef>
#include <thread>

namespace stepsize {

using std::size_t;

// Calls job(context, i) for every i below count, each once, on several threads if there are enough
// elements to pay for them.
void parallel_for(size_t count, size_t elements, void (*job)(void*, size_t), void* context);

template <class Job> void parallel_for(size_t count, size_t elements, const Job& job) {
    parallel_for(
        count, elements, [](void* context, size_t i) { (*static_cast<const Job*>(context))(i); },
        const_cast<Job*>(&job));
}

// The number of threads for a large step of the calling thread: the one that was set, unless
// OpenMP, which other libraries may limit for a while, has allowed fewer since; else OpenMP's, and
// at most the granted processors.
int thread_count();
void set_thread_count(int count); // 0: what OpenMP would
bool has_openmp();

// Whether the team backs off after a step in which one thread would have been faster; if not, a
// large step always uses the number of threads that was set.
void set_back_off(bool on);

// From here on, children of os.fork() are detected. Called once, when the module is imported, since
// other users of the same OpenMP may start threads before the first large step.
void watch_forks();
int fork_count();                 // between that call's process and this one
std::thread::id forking_thread(); // the one that called fork last

} // namespace stepsize
