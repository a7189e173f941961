#include "cache/encoder/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace holdfast::cache {
namespace {

struct Build {
  const char* name;
  const Kernels* kernels;
};

// Those that this processor can run.
std::vector<Build> Builds() {
  std::vector<Build> builds = {{"plain", &kPlainKernels}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    builds.push_back({"avx2", &kAvx2Kernels});
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    builds.push_back({"avx512", &kAvx512Kernels});
  }
#endif
  return builds;
}

class KernelsTest : public ::testing::TestWithParam<Build> {
 protected:
  std::vector<float> Normal(size_t size, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(size);
    for (float& value : values) value = normal(random_);
    return values;
  }

  const Kernels& kernels_ = *GetParam().kernels;
  std::mt19937 random_{5};
};

TEST_P(KernelsTest, EveryHalfFloat) {
  std::vector<uint16_t> halves;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) halves.push_back(static_cast<uint16_t>(bits));
  std::vector<float> floats(halves.size());
  kernels_.from_half(halves.data(), halves.size(), floats.data());
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint32_t power = bits >> 10 & 31;
    if (power == 31) continue;  // no such weights
    const int fraction = static_cast<int>(bits & 1023);
    const float size =
        power == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                   : std::ldexp(static_cast<float>(fraction + 1024), static_cast<int>(power) - 25);
    EXPECT_EQ(floats[bits], bits >> 15 ? -size : size) << bits;
  }
}

TEST_P(KernelsTest, Bfloat16IsTheNearest) {
  auto values = Normal(64);
  values[0] = std::bit_cast<float>(0x3F808000u);  // halfway: to even, down
  values[1] = std::bit_cast<float>(0x3F818000u);  // halfway: to even, up
  std::vector<uint16_t> rounded(values.size());
  kernels_.to_bfloat16(values.data(), values.size(), rounded.data());
  EXPECT_EQ(rounded[0], 0x3F80);
  EXPECT_EQ(rounded[1], 0x3F82);
  for (size_t i = 0; i < values.size(); ++i) {
    const auto back = std::bit_cast<float>(static_cast<uint32_t>(rounded[i]) << 16);
    EXPECT_LE(std::abs(back - values[i]), std::abs(values[i]) / 256) << values[i];
  }
}

TEST_P(KernelsTest, BytesAreWithinHalfAStep) {
  for (const float shift : {0.0f, 5.0f, -5.0f}) {
    auto values = Normal(96);
    for (float& value : values) value += shift;
    std::vector<uint8_t> bytes(values.size());
    const RowScale row = kernels_.to_bytes(values.data(), values.size(), bytes.data());
    const float most = std::max(0.0f, *std::ranges::max_element(values));
    const float least = std::min(0.0f, *std::ranges::min_element(values));
    EXPECT_NEAR(row.scale, (most - least) / 255, 1e-6);
    for (size_t i = 0; i < values.size(); ++i) {
      const float back = row.scale * (static_cast<float>(bytes[i]) - row.zero);
      EXPECT_NEAR(back, values[i], row.scale * 1.01f);
      if (i > 0 && values[i] > values[i - 1]) {
        EXPECT_GE(bytes[i], bytes[i - 1]);
      }
    }
  }
  const std::vector<float> zeros(32, 0.0f);
  std::vector<uint8_t> bytes(32, 7);
  const RowScale row = kernels_.to_bytes(zeros.data(), zeros.size(), bytes.data());
  EXPECT_EQ(row.scale * (static_cast<float>(bytes[3]) - row.zero), 0.0f);
}

TEST_P(KernelsTest, ProductsOfBytesBecomeFloats) {
  const std::vector<int32_t> products = {1000, -1000, 0,  5, 1 << 20, 7, 8, 9,
                                         10,   11,    12, 3, 4,       5, 6, -7};
  std::vector<float> scale(16);
  std::vector<float> sum(16);
  for (size_t i = 0; i < 16; ++i) {
    scale[i] = 0.5f + static_cast<float>(i);
    sum[i] = static_cast<float>(i) - 8;
  }
  std::vector<float> out(16);
  kernels_.from_products(products.data(), 16, {0.25f, 3.0f}, {scale.data(), sum.data()},
                         out.data());
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_FLOAT_EQ(out[i], (static_cast<float>(products[i]) - 3 * sum[i]) * scale[i] * 0.25f);
  }
}

TEST_P(KernelsTest, GeluIsTheExactOne) {
  std::vector<float> row;
  for (int i = -4096; i < 4096; ++i) row.push_back(static_cast<float>(i) / 256);
  const std::vector<float> x = row;
  kernels_.gelu(row.data(), row.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    EXPECT_NEAR(row[i], value * 0.5 * (1 + std::erf(value / std::sqrt(2.0))), 3e-6) << value;
  }
}

TEST_P(KernelsTest, LayerNorm) {
  auto row = Normal(384, 3);
  const auto x = row;
  const auto gain = Normal(384);
  const auto bias = Normal(384);
  kernels_.layer_norm(row.data(), row.size(), 1e-5f, gain.data(), bias.data());
  double mean = 0;
  double squares = 0;
  for (const float value : x) mean += static_cast<double>(value) / 384;
  for (const float value : x) squares += std::pow(static_cast<double>(value) - mean, 2) / 384;
  for (size_t i = 0; i < x.size(); ++i) {
    const double normal = (static_cast<double>(x[i]) - mean) / std::sqrt(squares + 1e-5);
    EXPECT_NEAR(row[i], normal * static_cast<double>(gain[i]) + static_cast<double>(bias[i]), 1e-4);
  }
}

TEST_P(KernelsTest, Attention) {
  constexpr size_t kWidth = 64;
  constexpr size_t kHeads = 2;
  constexpr size_t kDepth = kWidth / kHeads;
  for (const size_t tokens : {1, 2, 7, 8, 9, 15, 16, 17, 33, 100}) {
    const auto rows = Normal(tokens * 3 * kWidth);
    std::vector<float> scratch(AttentionScratch(tokens, kWidth, kHeads), NAN);
    std::vector<float> out(tokens * kWidth, NAN);
    kernels_.attention(rows.data(), tokens, kWidth, kHeads, scratch.data(), out.data());
    const auto at = [&](size_t token, size_t part, size_t head, size_t d) {
      return static_cast<double>(rows[(token * 3 + part) * kWidth + head * kDepth + d]);
    };
    for (size_t token = 0; token < tokens; ++token) {
      for (size_t head = 0; head < kHeads; ++head) {
        double total = 0;
        std::vector<double> sums(kDepth);
        for (size_t other = 0; other < tokens; ++other) {
          double score = 0;
          for (size_t d = 0; d < kDepth; ++d)
            score += at(token, 0, head, d) * at(other, 1, head, d);
          const double share = std::exp(score / std::sqrt(static_cast<double>(kDepth)));
          total += share;
          for (size_t d = 0; d < kDepth; ++d) sums[d] += share * at(other, 2, head, d);
        }
        for (size_t d = 0; d < kDepth; ++d) {
          ASSERT_NEAR(out[token * kWidth + head * kDepth + d], sums[d] / total, 2e-5)
              << tokens << " tokens, token " << token;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Builds, KernelsTest, ::testing::ValuesIn(Builds()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace holdfast::cache
