#pragma once

// What a call costs: estimated before an attempt, booked after it.

#include "core/outcome.h"
#include "core/request.h"
#include "resilience/route.h"

namespace holdfast::resilience {

// ceil(UTF-8 bytes / 3), and 1,000 for each image.
int64_t EstimatePromptTokens(const core::PromptSize& prompt);
int64_t EstimateTextTokens(size_t bytes);

// prompt * input price + max output * output price, in US dollars.
double EstimateCost(const Price& price, const core::PromptSize& prompt, int64_t max_output_tokens);

// By the usage that was told or estimated.
double CostOf(const Price& price, const core::Usage& usage);

}  // namespace holdfast::resilience
