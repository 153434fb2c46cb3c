// The parallel loop over the chunks of one step. The only place that knows OpenMP.
#pragma once

#include <cstddef>

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

int thread_count();
void set_thread_count(int count); // 0: as many as the environment allows
bool has_openmp();

} // namespace stepsize
