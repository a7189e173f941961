#include "resilience/cost.h"

#include <algorithm>

namespace holdfast::resilience {

int64_t EstimateTextTokens(size_t bytes) { return static_cast<int64_t>((bytes + 2) / 3); }

int64_t EstimatePromptTokens(const core::PromptSize& prompt) {
  return EstimateTextTokens(prompt.text_bytes) + 1000 * static_cast<int64_t>(prompt.images);
}

double EstimateCost(const Price& price, const core::PromptSize& prompt, int64_t max_output_tokens) {
  return (static_cast<double>(EstimatePromptTokens(prompt)) * price.input +
          static_cast<double>(max_output_tokens) * price.output) /
         1e6;
}

double CostOf(const Price& price, const core::Usage& usage) {
  const int64_t cached = std::min(usage.cached_input_tokens, usage.input_tokens);
  return (static_cast<double>(usage.input_tokens - cached) * price.input +
          static_cast<double>(cached) * price.cached_input +
          static_cast<double>(usage.output_tokens) * price.output) /
         1e6;
}

}  // namespace holdfast::resilience
