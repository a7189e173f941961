#pragma once

// Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): the delay before retry n
// of a target is uniform in [0, min(cap, base * 2^n)), with the exponent clamped before the power.
// After a Retry-After the delay is the told time plus U[0, min(ra / 10, 1 s)).

#include "core/clock.h"
#include "core/random.h"

namespace holdfast::resilience {

struct BackoffOptions {
  core::Duration base = std::chrono::seconds(1);  // > 0, <= cap
  core::Duration cap = std::chrono::seconds(30);

  friend bool operator==(const BackoffOptions&, const BackoffOptions&) = default;
};

core::Duration FullJitter(const BackoffOptions& options, int retry_index, core::Random& random);

// `retry_after` is first limited to 1 h.
core::Duration AfterRetryAfter(core::Duration retry_after, core::Random& random);

// A request that found every target cooling: the wait itself plus U[0, min(wait, 1 s)).
core::Duration AfterCooldown(core::Duration wait, core::Random& random);

inline constexpr core::Duration kMaxRetryAfter = std::chrono::hours(1);

}  // namespace holdfast::resilience
