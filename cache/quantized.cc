#include "cache/quantized.h"

#include <algorithm>
#include <cmath>

namespace holdfast::cache {
namespace {

// 127 * 256, so that the upper half of the largest value is 127.
constexpr float kLargest = 32512;

#define HOLDFAST_INLINE [[gnu::always_inline]] inline

// The bodies are compiled once for each set of instructions; the compiler vectorises them.
HOLDFAST_INLINE int32_t Dot8Body(const int8_t* a, const int8_t* b, size_t count) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += static_cast<int32_t>(a[i]) * static_cast<int32_t>(b[i]);
  }
  return sum;
}

// Several sums side by side, since the compiler may not reorder sums of floats by itself.
HOLDFAST_INLINE float Dot16Body(const float* query, const int8_t* upper, const int8_t* lower,
                                size_t count) {
  constexpr size_t kLanes = 32;
  float sums[kLanes] = {};
  const auto product = [&](size_t i) {
    return query[i] * static_cast<float>((upper[i] * 256) + lower[i]);
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += product(i + lane);
  }
  float sum = 0;
  for (; i < count; ++i) sum += product(i);
  for (const float lane_sum : sums) sum += lane_sum;
  return sum;
}

struct Kernels {
  const char* name;
  int32_t (*dot8)(const int8_t*, const int8_t*, size_t);
  float (*dot16)(const float*, const int8_t*, const int8_t*, size_t);
};

int32_t Dot8Plain(const int8_t* a, const int8_t* b, size_t n) { return Dot8Body(a, b, n); }
float Dot16Plain(const float* q, const int8_t* u, const int8_t* l, size_t n) {
  return Dot16Body(q, u, l, n);
}

#if defined(__x86_64__)

[[gnu::target("avx2,fma")]] int32_t Dot8Avx2(const int8_t* a, const int8_t* b, size_t n) {
  return Dot8Body(a, b, n);
}
[[gnu::target("avx2,fma")]] float Dot16Avx2(const float* q, const int8_t* u, const int8_t* l,
                                            size_t n) {
  return Dot16Body(q, u, l, n);
}

#define HOLDFAST_AVX512 [[gnu::target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]]
HOLDFAST_AVX512 int32_t Dot8Avx512(const int8_t* a, const int8_t* b, size_t n) {
  return Dot8Body(a, b, n);
}
HOLDFAST_AVX512 float Dot16Avx512(const float* q, const int8_t* u, const int8_t* l, size_t n) {
  return Dot16Body(q, u, l, n);
}

Kernels Choose() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return {"avx512", &Dot8Avx512, &Dot16Avx512};
  }
  if (avx2) return {"avx2", &Dot8Avx2, &Dot16Avx2};
  return {"plain", &Dot8Plain, &Dot16Plain};
}

#else

Kernels Choose() { return {"plain", &Dot8Plain, &Dot16Plain}; }

#endif

const Kernels kKernels = Choose();

}  // namespace

QuantizedVector Quantize(std::span<const float> vector) {
  float largest = 0;
  for (const float value : vector) largest = std::max(largest, std::abs(value));
  QuantizedVector quantized{0, std::vector<int16_t>(vector.size())};
  if (!(largest > 0)) return quantized;
  double squares = 0;
  for (size_t i = 0; i < vector.size(); ++i) {
    const double value = std::round(static_cast<double>(vector[i]) / largest * kLargest);
    quantized.values[i] = static_cast<int16_t>(value);
    squares += value * value;
  }
  quantized.scale = static_cast<float>(1 / std::sqrt(squares));
  return quantized;
}

std::vector<float> Dequantize(const QuantizedVector& vector) {
  std::vector<float> values;
  values.reserve(vector.values.size());
  for (const int16_t value : vector.values) {
    values.push_back(static_cast<float>(value) * vector.scale);
  }
  return values;
}

int32_t Dot8(const int8_t* a, const int8_t* b, size_t count) { return kKernels.dot8(a, b, count); }

float Dot16(const float* query, const int8_t* upper, const int8_t* lower, size_t count) {
  return kKernels.dot16(query, upper, lower, count);
}

const char* DotInstructions() { return kKernels.name; }

}  // namespace holdfast::cache
