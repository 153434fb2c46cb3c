// The operands of a tile: in place in memory, or dequantized in a buffer.
#pragma once

#include "kernels/bounds.hpp"
#include "kernels/quantization.hpp"
#include "kernels/reduce.hpp"

namespace stepsize {
namespace {

constexpr size_t prefetch_bytes = 2048;

// Software prefetch, one cache line at a time. targets.cpp decides which processors gain by it.
template <class F> inline void prefetch(const F* data) {
    for (size_t at = 0; at < lanes * sizeof(F); at += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(data) + prefetch_bytes + at);
}

// Finds the operands of a tile, dequantized where they are not native, and prefetches the next.
template <class F, int slot_count> struct TileOperands {
    const Span& span;
    alignas(64) F buffers[slot_count + 2][tile];
    F* x;
    const F* g;
    F* slots[slot_count + 1] = {};
    // What the random bits of a slot, and of the parameters, depend on besides the tile.
    uint64_t rounding_key[slot_count + 1], parameter_key;

    TileOperands(const Span& span_, uint64_t step) : span(span_) {
        if (!span.coded)
            return;
        for (int k = 0; k < slot_count; ++k)
            rounding_key[k] = hash64(step + span.place * max_slots + uint64_t(k)) + span.first;
        parameter_key = hash64(~(step + span.place * max_slots)) + span.first;
    }

    void open(size_t from, size_t count) {
        // Parameters in half precision may have no others, and what is null may not be moved.
        x = reinterpret_cast<F*>(reinterpret_cast<size_t>(span.x) + from * sizeof(F));
        g = static_cast<const F*>(span.g) + from;
        if (span.coded)
            return open_coded(from, count);
        for (int k = 0; k < slot_count; ++k)
            slots[k] = static_cast<F*>(span.slots[k].data) + from;
    }
    // `free`: moved parameters that are to be rounded have not been constrained yet.
    void close(size_t from, size_t count, bool moved, bool free) {
        if (span.coded)
            close_coded(from, count, moved, free);
    }
    // What the random bits of a tile start from.
    uint32_t key(int slot, size_t from) const {
        return uint32_t(hash64(rounding_key[slot] + from / tile));
    }
    // Bytes per number of state if all state, and nothing else, is coded in one format; else 0.
    size_t quantized_width() const {
        const size_t width = slot_count > 0 ? width_of(span.slots[0].storage) : 0;
        bool alike = span.x && !span.half.data && int(span.g_dtype) < dtype_count;
        for (int k = 0; k < slot_count; ++k)
            alike = alike && width_of(span.slots[k].storage) == width;
        return alike ? width : 0;
    }
    // Out of line, so that not every rule holds every conversion.
    __attribute__((noinline)) void open_coded(size_t from, size_t count) {
        if (span.g_dtype == Dtype::float16 || span.g_dtype == Dtype::bfloat16)
            g = load_master<F>({const_cast<void*>(span.g), span.g_dtype, nullptr, 0, false},
                               nullptr, from, count, buffers[slot_count + 1]);
        if (span.half.data)
            x = load_master(span.half, static_cast<F*>(span.x), from, count, buffers[slot_count]);
        for (int k = 0; k < slot_count; ++k)
            slots[k] = open_tile(span.slots[k], from, count, buffers[k]);
    }
    __attribute__((noinline)) void close_coded(size_t from, size_t count, bool moved, bool free) {
        if (span.half.data && moved) {
            if (free && span.bounds.low)
                constrain(span.bounds, from, count, x);
            store_half(span.half, x, from, count, uint32_t(hash64(parameter_key + from / tile)));
        }
        for (int k = 0; k < slot_count; ++k)
            close_tile(span.slots[k], from, count, buffers[k], key(k, from));
    }
    void fetch(size_t element, int first, int last) const {
        prefetch(x + element);
        prefetch(g + element);
        for (int k = first; k < last; ++k)
            prefetch(slots[k] + element);
    }
};

} // namespace
} // namespace stepsize
