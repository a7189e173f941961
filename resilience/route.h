#pragma once

// A route as the configuration says it: the chain of targets and the rules by which the engine
// walks it. Plain values, immutable once the server runs. Defaults are the shipped ones.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/answer.h"
#include "core/clock.h"
#include "core/request.h"
#include "resilience/backoff.h"
#include "resilience/retry_budget.h"

namespace holdfast::resilience {

// Timers inside one attempt; they start before DNS. All > 0.
struct AttemptTimeouts {
  core::Duration connect = std::chrono::seconds(2);
  core::Duration first_token = std::chrono::seconds(10);
  core::Duration idle = std::chrono::seconds(10);  // between content
  std::optional<core::Duration> attempt;           // over all of it until commit; unset = none
};

// US dollars for a million tokens. All >= 0.
struct Price {
  double input = 0;
  double cached_input = 0;  // unset in the configuration = input
  double output = 0;
};

// One step of a chain: a target and how this route uses it.
struct Step {
  core::TargetName target;
  std::optional<double> share;  // (0, 1]: of what remains when the step starts
  AttemptTimeouts timeouts;
  std::optional<Price> price;             // unset = unknown
  std::optional<int64_t> context_window;  // tokens; unset = unknown
  int64_t max_output_tokens = 4096;       // assumed where the request names none
  std::optional<bool> can_continue;       // an assistant prefix; unset = by provider kind
};

struct RetryOptions {
  int max_retries = 3;   // per target; >= 0
  int max_attempts = 8;  // per request, over everything; >= the chain's length
  BackoffOptions backoff;
  core::Duration prefer_wait = std::chrono::seconds(3);
  core::Duration max_wait = std::chrono::seconds(20);
  RetryBudgetOptions budget;
};

struct RouteCacheOptions {
  bool enabled = true;
  core::CacheControl::Mode mode = core::CacheControl::Mode::kFallback;  // or kPrefer
  double min_similarity = 0.85;                                         // [0, 1]
  double prefer_similarity = 0.95;                   // [0, 1]; of what is served before the chain
  std::vector<std::string> scope_ignore;             // patterns, of the cache too
  std::optional<double> max_error;                   // (0, 1); the cache raises thresholds for it
  core::Duration max_age = std::chrono::hours(168);  // > 0
};

struct PartialOptions {
  std::string notice =
      "The service could not get a complete answer from any model just now; please try again "
      "shortly.";
  std::optional<Step> target;  // gets one attempt at a basic answer
};

// A second target asked while the first one is silent.
struct HedgeOptions {
  core::Duration delay = std::chrono::seconds(1);  // at least; the p95 of first tokens if longer
  int max = 1;                                     // at once, the first attempt aside; >= 1
};

enum class OnRefusal { kFinal, kNext };

struct Route {
  std::string name;
  core::Duration timeout = std::chrono::seconds(30);
  core::Duration min_useful = std::chrono::seconds(1);
  core::Degradation worst_acceptable = core::Degradation::kPartial;
  OnRefusal on_refusal = OnRefusal::kFinal;
  core::OnBreak on_break = core::OnBreak::kContinue;
  std::optional<HedgeOptions> hedge;  // unset = off
  std::optional<double> max_cost_usd;
  std::vector<Step> chain;  // never empty
  RetryOptions retry;
  RouteCacheOptions cache;
  PartialOptions partial;
};

}  // namespace holdfast::resilience
