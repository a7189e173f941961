#pragma once

// Unit vectors in 16 bits a number, and the arithmetic on them that a search spends its time in.
// Plain functions, safe from any thread; the processor's best instructions are chosen at run time.
//
// A number is value * scale, and the scale makes the vector's length exactly 1: so a vector's
// cosine to itself is 1, and to others it is off by about 1e-5 (of 384 dimensions). The upper
// halves alone are a vector in 8 bits, off by some 5e-4: good enough to walk a graph by, at half
// the memory traffic; the lower halves then put what was found in its exact order.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace holdfast::cache {

struct QuantizedVector {
  float scale = 0;  // 0 only if all values are
  std::vector<int16_t> values;
};

QuantizedVector Quantize(std::span<const float> vector);
std::vector<float> Dequantize(const QuantizedVector& vector);

// value == 256 * upper + lower.
inline constexpr float kUpperStep = 256;
inline int8_t UpperHalf(int16_t value) { return static_cast<int8_t>((value + 128) >> 8); }
inline int8_t LowerHalf(int16_t value) {
  return static_cast<int8_t>(value - (UpperHalf(value) * 256));
}

// Sum of a[i] * b[i]; of up to 100,000 numbers.
int32_t Dot8(const int8_t* a, const int8_t* b, size_t count);
// Sum of query[i] * (256 * upper[i] + lower[i]).
float Dot16(const float* query, const int8_t* upper, const int8_t* lower, size_t count);

// Which instructions are used, for a person: "avx512", "avx2" or "plain".
const char* DotInstructions();

}  // namespace holdfast::cache
