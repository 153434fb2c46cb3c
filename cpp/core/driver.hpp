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

// What a large step of the calling thread would use: what was set, else what OpenMP would, which
// other libraries limit for a while, within the processors granted.
int thread_count();
void set_thread_count(int count); // 0: what OpenMP would
bool has_openmp();

// Whether threads rest for a while after a step in which one would have been faster; off, a large
// step always uses as many as were set.
void set_back_off(bool on);

// From here on the children of os.fork() are known. Once, when the module is imported: other users
// of the same OpenMP may have threads long before a step is large enough for some.
void watch_forks();
int fork_count();                 // between that call's process and this one
std::thread::id forking_thread(); // the one that called fork last

} // namespace stepsize
