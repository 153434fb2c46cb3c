// The fused loop over a whole tile of quantized state, all in one format: dequantize, step and, for
// bfloat16, quantize in one pass.
#pragma once

#include "kernels/operands.hpp"
#include "kernels/rule.hpp"

namespace stepsize {
namespace {

template <class R, size_t... K>
void stretch_bfloat16(const BoundRule<R, float>& p,
                      const TileOperands<float, int(sizeof...(K))>& at, size_t from,
                      Indices<K...>) {
    const Span& span = at.span;
    float* x = static_cast<float*>(span.x) + from;
    const float* g = static_cast<const float*>(span.g) + from;
    uint16_t* const codes[] = {(static_cast<uint16_t*>(span.slots[K].data) + from)...};
    const uint32_t first[] = {at.key(K, from)...};
    const BoundRule<R, float> here = p;
#pragma omp simd
    for (int i = 0; i < tile_length; ++i) {
        float s[] = {Bfloat16::to_float32(codes[K][i])...};
        const float grad = here.gradient(g[i], x[i]);
        float value = x[i] * here.shrink;
        here.rule(value, grad, s[K]...);
        x[i] = value;
        const uint32_t random = uint32_t(i) * key_step;
        ((codes[K][i] = bfloat16_of(s[K], first[K] + random)), ...);
    }
}

// A quarter of a tile of 8-bit state: dequantizes and steps; the new state goes into `slots`.
template <class R, size_t... K>
STEPSIZE_INLINE void step_quarter(const BoundRule<R, float>& p, float* x, const float* g,
                                  float* const* slots, const uint8_t* const* codes,
                                  const Dequantizer* dequantizers, int quarter, Indices<K...>) {
#pragma omp simd
    for (int j = 0; j < quarter_length; ++j) {
        const int i = j + quarter * quarter_length;
        float s[] = {dequantizers[K].dequantize(word_at(codes[K], j), quarter)...};
        const float grad = p.gradient(g[i], x[i]);
        float value = x[i] * p.shrink;
        p.rule(value, grad, s[K]...);
        x[i] = value;
        ((slots[K][i] = s[K]), ...);
    }
}

// 8-bit state is written after the whole tile, since its scale depends on all of it.
template <class R, size_t... K>
__attribute__((noinline)) void stretch_bytes(const BoundRule<R, float>& p,
                                             TileOperands<float, int(sizeof...(K))>& at,
                                             size_t from, Indices<K...> indices) {
    const Span& span = at.span;
    float* x = static_cast<float*>(span.x) + from;
    const float* g = static_cast<const float*>(span.g) + from;
    float* const slots[] = {at.buffers[K]...};
    uint8_t* const codes[] = {(static_cast<uint8_t*>(span.slots[K].data) + from)...};
    float* const scales[] = {(span.slots[K].scales + from / tile)...};
    const ByteFormat* const formats[] = {&format_of(span.slots[K].storage)...};
    const Dequantizer dequantizers[] = {Dequantizer(*formats[K], *scales[K])...};
    const BoundRule<R, float> here = p;
    for (int quarter = 0; quarter < word_bytes; ++quarter)
        step_quarter(here, x, g, slots, codes, dequantizers, quarter, indices);
    (quantize_bytes(*formats[K], slots[K], codes[K], *scales[K], at.key(int(K), from)), ...);
}

// The state formats for which a target has these loops, in bytes per number: with shorter vectors
// they gain little, and every rule would contain them three times.
#if defined(__AVX512F__)
constexpr bool has_bfloat16 = true, has_bytes = true;
#elif defined(__AVX2__)
constexpr bool has_bfloat16 = true, has_bytes = false;
#else
constexpr bool has_bfloat16 = false, has_bytes = false;
#endif

// Whether these loops did the work: state of `width` bytes per number, see
// TileOperands::quantized_width.
template <class R, class F, size_t... K>
bool stretch_quantized(const BoundRule<R, F>& p, TileOperands<F, int(sizeof...(K))>& at,
                       size_t from, size_t width, Indices<K...> indices) {
    constexpr bool whole = sizeof(F) == sizeof(float) && sizeof...(K) > 0 && !HasSums<R>::value;
    if constexpr (whole && has_bfloat16)
        if (width == 2) {
            stretch_bfloat16(p, at, from, indices);
            return true;
        }
    if constexpr (whole && has_bytes)
        if (width == 1) {
            stretch_bytes(p, at, from, indices);
            return true;
        }
    return false;
}

} // namespace
} // namespace stepsize
