#pragma once

// How one attempt at one target ended. A provider finds the kind (mechanism); what follows from it
// is a row of resilience/outcome_rules.h (policy).

#include <cstdint>
#include <optional>
#include <string>

#include "core/clock.h"

namespace holdfast::core {

enum class OutcomeKind {
  kComplete,          // an answer with its finish reason
  kRefusal,           // refused or filtered by the provider's safety decision, as 200 or 400
  kBadRequest,        // 400, 413, 422: the request was at fault
  kContextLength,     // the prompt is longer than the model's context
  kModelNotFound,     // 404
  kAuth,              // 401, 403, a bad key, a closed region
  kQuota,             // 402, 429 with quota, billing or credit exhausted
  kRateLimited,       // 429
  kRequestTimeout,    // 408
  kConflict,          // 409, 425
  kServerError,       // 500, 502, 504 and what nobody knows
  kMalformed,         // a 200 that cannot be read, is too large, or is empty
  kOverloaded,        // 503, 529, in-stream overloaded_error
  kInvalidJson,       // the answer is not the JSON that response_format asked for
  kConnect,           // DNS, connect, TLS, or a reset before headers
  kPooledReset,       // a reused connection was reset before headers, for the first time
  kCut,               // the stream broke or ended without a finish reason after headers
  kTimeout,           // our connect, first-token or idle timer ran its configured length
  kTimeoutShortened,  // the same, cut shorter by plan, share or the caller's deadline
  kOutOfTime,         // content was flowing when the step's time or attempt_timeout ran out
  kPaused,            // the caller did not read, so we did not either, for longer than is allowed
  kBeaten,            // another attempt of a hedge brought content first
  kCancelled,         // the caller went away
};

// snake_case, as it stands in the API, the log and metrics: "rate_limited".
const char* Name(OutcomeKind kind);

struct Usage {
  int64_t input_tokens = 0;         // all of the prompt, cached ones included
  int64_t cached_input_tokens = 0;  // the part of input_tokens read from the provider's cache
  int64_t output_tokens = 0;        // all that was generated, reasoning included
  int64_t reasoning_tokens = 0;     // the part of output_tokens that is reasoning
};

struct Outcome {
  OutcomeKind kind = OutcomeKind::kServerError;
  int http_status = 0;                  // 0 = no response headers came
  std::string error;                    // the provider's own words or ours; bounded, no secret
  std::optional<Duration> retry_after;  // > 0; from headers or body, in the documented order
  std::optional<bool> should_retry;     // x-should-retry
  bool reused_connection = false;
  uint64_t skipped_events = 0;  // lines and events of the stream that could not be read
};

}  // namespace holdfast::core
