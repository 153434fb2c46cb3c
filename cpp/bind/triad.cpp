// The memory bandwidth of the machine for a loop like ours, as a reference for the benchmarks.
#include <algorithm>

#include "bind/chunks.hpp"
#include "core/types.hpp"

namespace stepsize {
namespace {

constexpr size_t line = 64 / sizeof(float);
constexpr size_t distance = 2048 / sizeof(float);

void stretch(float* x, const float* y, size_t count) {
    for (size_t i = 0; i < count; ++i)
        x[i] = x[i] * 0.5f + y[i];
}

void stretch_ahead(float* x, const float* y, size_t count) {
    size_t i = 0;
    for (; i + line <= count; i += line) {
        __builtin_prefetch(x + i + distance);
        __builtin_prefetch(y + i + distance);
        stretch(x + i, y + i, line);
    }
    stretch(x + i, y + i, count - i);
}

// x = x / 2 + y: 12 bytes per element, two streams read and one of them written.
void triad(const py::array& x, const py::array& y, bool ahead) {
    if (!is_plain(x.ptr(), Dtype::float32) || !is_plain(y.ptr(), Dtype::float32) ||
        x.size() != y.size() || !x.writeable())
        throw py::type_error("triad: needs two contiguous float32 arrays of one size");
    auto* to = reinterpret_cast<float*>(proxy(x.ptr())->data);
    const auto* from = reinterpret_cast<const float*>(proxy(y.ptr())->data);
    const size_t size = size_t(x.size());
    run_chunks((size + chunk_size - 1) / chunk_size, size, [&](size_t i) {
        const size_t at = i * chunk_size, count = std::min(chunk_size, size - at);
        ahead ? stretch_ahead(to + at, from + at, count) : stretch(to + at, from + at, count);
    });
}

} // namespace

void bind_triad(py::module_& m) {
    m.def("triad", triad, py::arg("x"), py::arg("y"), py::arg("ahead"),
          "x = x / 2 + y in place, as a measure of memory");
}

} // namespace stepsize
