#pragma once

// What the encoder computes between its matrix products, row by row, in one build for each kind
// of processor. BertEncoder alone calls them, from any thread: they keep no state.
//
// Sizes are multiples of 16 unless said otherwise; rows need no alignment.

#include <cstddef>
#include <cstdint>

namespace holdfast::cache {

// How a row of floats became bytes: x is about scale * (byte - zero).
struct RowScale {
  float scale;
  float zero;
};

// What turns a row of integer products back into floats, for each output.
struct OutputScales {
  const float* scale;  // of the weights
  const float* sum;    // of the weights over their inputs
};

struct Kernels {
  void (*from_half)(const uint16_t* from, size_t size, float* to);
  // Rounds to nearest even.
  void (*to_bfloat16)(const float* from, size_t size, uint16_t* to);
  RowScale (*to_bytes)(const float* from, size_t size, uint8_t* to);
  // to = scales * products; `to` and `products` may be the same memory.
  void (*from_products)(const int32_t* products, size_t size, RowScale row, OutputScales outputs,
                        float* to);
  void (*add)(const float* what, size_t size, float* to);
  // x * P(normal variable < x), the exact form by erf.
  void (*gelu)(float* row, size_t size);
  void (*layer_norm)(float* row, size_t size, float epsilon, const float* gain, const float* bias);
  // Self-attention of one text: `rows` holds query, key and value (3 * width) of each of `tokens`
  // tokens, any number of them; `out` gets width floats for each. `scratch` holds
  // AttentionScratch() floats.
  void (*attention)(const float* rows, size_t tokens, size_t width, size_t heads, float* scratch,
                    float* out);
};

constexpr size_t kAttentionBlock = 16;   // keys that are worked on together
constexpr size_t kAttentionQueries = 8;  // queries, at most

inline size_t AttentionScratch(size_t tokens, size_t width, size_t heads) {
  const size_t padded = (tokens + kAttentionBlock - 1) / kAttentionBlock * kAttentionBlock;
  return padded * (width / heads + kAttentionQueries);
}

extern const Kernels kPlainKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;    // needs AVX2, FMA, F16C
extern const Kernels kAvx512Kernels;  // needs AVX-512 F, BW, VL, DQ
#endif

}  // namespace holdfast::cache
