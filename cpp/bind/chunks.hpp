// Work in chunks: how a range of memory is split, and how chunks are run.
#pragma once

#include <algorithm>
#include <vector>

#include "bind/interpreter.hpp"
#include "bind/numpy.hpp"
#include "core/driver.hpp"

namespace stepsize {

// Below this many elements the work is done before another thread could use the GIL.
constexpr size_t release_elements = 65536;

// Calls job(i) for every i below count, on several threads and without the GIL if there are enough
// elements. The caller holds what the job reads and writes, and pins it.
template <class Job> void run_chunks(size_t count, size_t elements, const Job& job) {
    if (elements < release_elements) {
        for (size_t i = 0; i < count; ++i)
            job(i);
        return;
    }
    const InterpreterReleased released;
    parallel_for(count, elements, job);
}

// Advances a span's pointers by `at` elements, to the first of a tile.
inline void advance(Span& span, size_t at, size_t width, int slots) {
    if (span.x)
        span.x = static_cast<char*>(span.x) + at * width;
    if (span.average)
        span.average = static_cast<char*>(span.average) + at * width;
    if (span.bounds.each) {
        span.bounds.low = static_cast<const char*>(span.bounds.low) + at * width;
        span.bounds.high = static_cast<const char*>(span.bounds.high) + at * width;
    }
    if (span.half.data)
        span.half.data = static_cast<char*>(span.half.data) + at * item_size(span.half.dtype);
    if (span.half.low)
        span.half.low = static_cast<char*>(span.half.low) + at * span.half.low_bytes;
    span.g = static_cast<const char*>(span.g) + at * item_size(span.g_dtype);
    for (int k = 0; k < slots; ++k) {
        Slot& slot = span.slots[k];
        slot.data = static_cast<char*>(slot.data) + at * item_size(slot.storage, width);
        if (slot.scales)
            slot.scales += at / tile;
    }
    span.first += uint32_t(at / tile);
}

// Appends the chunks of a piece of work, which has a span and the dtype it is computed in.
template <class Work>
void split(std::vector<Work>& chunks, const Work& whole, int slots, bool ahead) {
    const size_t width = item_size(whole.dtype), size = whole.span.size;
    for (size_t at = 0; at < size; at += chunk_size) {
        chunks.push_back(whole);
        Span& span = chunks.back().span;
        span.size = std::min(chunk_size, size - at);
        span.ahead = ahead && size >= chunk_size;
        if (at)
            advance(span, at, width, slots);
    }
}

} // namespace stepsize
