#pragma once

// What follows from each way an attempt can end: one row for each core::OutcomeKind. The engine
// consults this table and nothing else.

#include "core/outcome.h"

namespace holdfast::resilience {

struct OutcomeRule {
  enum class BreakerEffect {
    kSuccess,
    kFailure,
    kNeutral,
    kCensored,  // only if the attempt had kMinObservation without any content; else neutral
  };
  enum class LimiterEffect { kSuccess, kDrop, kIgnore };
  enum class SameTarget {
    kNever,
    kOnce,
    kYes,
    kAfterWait,        // after the wait that the provider told, or a jittered one
    kResend,           // at once and uncounted, the first time; then as kConnect
    kIfNoOtherTarget,  // only while no other target would admit the request
  };
  enum class NextTarget {
    kNo,
    kYes,
    kPreferred,      // go there without sleeping if one admits
    kIfRouteSays,    // on_refusal: next
    kIfNotAtFault,   // only after a failure that was not the request's fault
    kLargerContext,  // only one with a larger or unknown context window
  };
  // What a Retry-After or a local rest binds.
  enum class Cooldown {
    kNone,        // a Retry-After is not believed to bind anyone but this request
    kIfTold,      // the target, if there is a Retry-After
    kRateLimit,   // the target (or credential); without a header the request's own delay
    kQuota,       // the credential: the reset time, or 15 min
    kQuarantine,  // the credential, after two in a row
  };

  BreakerEffect breaker;
  LimiterEffect limiter;
  SameTarget same;
  NextTarget next;
  Cooldown cooldown;
  bool request_at_fault = false;
  bool maybe_billed = false;  // a retry after it costs two tokens
  bool salvage = false;       // its text may be served as a partial answer
};

const OutcomeRule& RuleOf(core::OutcomeKind kind);

inline constexpr core::Duration kMinObservation = std::chrono::seconds(2);
inline constexpr core::Duration kQuotaCooldown = std::chrono::minutes(15);

}  // namespace holdfast::resilience
