#pragma once

// What the engine gives back: an Answer that always says how it came to be, or an Error with the
// same provenance.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/answer_cache.h"
#include "core/outcome.h"
#include "core/provider.h"
#include "core/request.h"

namespace holdfast::core {

struct TargetName {
  std::string provider;
  std::string model;
  friend bool operator==(const TargetName&, const TargetName&) = default;
};

// One line of the provenance: an attempt that was made, or a target that was skipped.
struct AttemptRecord {
  TargetName target;
  bool skipped = false;
  std::string outcome;      // Name(OutcomeKind), or the reason of the skip: "breaker_open"
  int http_status = 0;      // 0 = none
  std::string error;        // the provider's text, bounded
  Duration start_offset{};  // since the request's arrival
  Duration duration{};
  Duration delay_before{};    // slept before this attempt
  std::string retry_skipped;  // why the target got no further attempt; empty if it got one
  Usage usage;
  bool usage_estimated = false;
  double cost_usd = 0;
};

struct TimeBudget {
  Duration total{};
  Duration used{};
};

struct Answer {
  std::string text;
  std::vector<ToolCall> tool_calls;
  FinishReason finish_reason = FinishReason::kUnspecified;
  Usage usage;
  Degradation degradation = Degradation::kNone;
  std::string notice;                   // set on every partial answer
  std::optional<TargetName> served_by;  // of the last target that contributed; none: notice alone
  std::optional<CacheHit> cache_hit;
};

enum class ErrorCode {
  kInvalidArgument,
  kResourceExhausted,
  kDeadlineExceeded,
  kUnavailable,
  kCancelled,
  kUnimplemented,
  kNotFound,
};

struct Error {
  ErrorCode code = ErrorCode::kUnavailable;
  std::string reason;   // SCREAMING_SNAKE_CASE, documented in docs/errors.md
  std::string message;  // one sentence for a person
  std::string field;    // the path of the field at fault, where there is one
  std::optional<Duration> retry_after;
};

struct Result {
  std::variant<Answer, Error> value;
  std::vector<AttemptRecord> attempts;
  double cost_usd = 0;
  TimeBudget time_budget;

  bool ok() const { return std::holds_alternative<Answer>(value); }
};

}  // namespace holdfast::core
