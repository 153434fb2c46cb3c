// The loops that belong to no rule: norms, checks, bounds and powers.
#include <algorithm>

#include "checks.hpp"

namespace stepsize {
namespace checks {
namespace {

void constrain(const Table& table, Dtype dtype, size_t size, size_t offset, Source& source,
               Digest& digest) {
    const size_t width = width_of(dtype);
    const Block x(size * width, offset * width), low(size * width, 0), high(size * width, 0);
    fill(x, dtype, source, false);
    fill(low, dtype, source, false);
    fill(high, dtype, source, false);
    const double threshold = source.flag() ? 0.01 : 0;
    Span span = {};
    span.x = x.data();
    span.size = size;
    span.bounds = {low.data(), high.data(), &threshold, source.flag()};
    table.constrain[int(dtype)](span);
    digest.numbers(dtype, x.data(), size);
}

} // namespace

// Of at most a chunk, as the callers cut their arrays.
uint64_t reductions(const Table& table, size_t size, Source source) {
    Digest digest;
    const size_t count = std::min(size, chunk_size), offset = source.below(16);
    for (int k = 0; k < given_dtype_count; ++k) {
        const size_t width = width_of(Dtype(k));
        const Block block(count * width, offset * width);
        fill(block, Dtype(k), source, source.below(3) == 0);
        const double found[] = {table.sum_of_squares[k](block.data(), count, 1),
                                table.sum_of_squares[k](block.data(), count, 0x1p-40),
                                double(table.all_finite[k](block.data(), count, 1)),
                                double(table.all_finite[k](block.data(), count, headroom))};
        digest.numbers<double>(found, 4);
        if (found[2] != 0) { // of numbers that are, the only ones it is asked for
            const double largest = table.largest[k](block.data(), count);
            digest.numbers<double>(&largest, 1);
        }
        if (k == int(Dtype::float64)) {
            const double sum =
                table.sum_lanes(reinterpret_cast<const double*>(block.data()), count);
            digest.numbers<double>(&sum, 1);
        }
    }
    constrain(table, Dtype::float32, size, offset, source, digest);
    constrain(table, Dtype::float64, size, offset, source, digest);
    for (const int64_t n : {int64_t(0), int64_t(source.below(1000)), int64_t(1) << 24,
                            (int64_t(1) << 31) + 1, int64_t(1) << 53}) {
        const double bases[] = {0.9, 0.999, 0, 1, source.unit()};
        for (const double base : bases) {
            const double found = table.power(base, n);
            digest.numbers<double>(&found, 1);
        }
    }
    return digest.value();
}

} // namespace checks
} // namespace stepsize
