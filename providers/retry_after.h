#pragma once

// When a provider says that it wants to be called again. Pure functions of the response's headers;
// what is not finite, not above zero or not readable counts as absent, and nothing in here ever
// changes how an outcome is classified.

#include <optional>
#include <string_view>

#include "core/clock.h"
#include "providers/http/http_client.h"

namespace holdfast::providers {

// The first that is there: retry-after-ms; retry-after in seconds, also fractional; retry-after as
// an HTTP date; the latest of the x-ratelimit-reset-* and anthropic-ratelimit-*-reset headers whose
// own remaining header is 0; `body_delay`, Gemini's RetryInfo.retryDelay.
std::optional<core::Duration> ReadRetryAfter(const HttpHeaders& headers,
                                             std::string_view body_delay, const core::Clock& clock);

// "120ms", "1m2s", "6m0s", "1h2m3.5s"; a bare number is seconds.
std::optional<core::Duration> ParseRetryDuration(std::string_view text);

// The three forms of RFC 9110.
std::optional<core::WallTime> ParseHttpDate(std::string_view text);

// "2025-01-31T12:00:00Z", fractions and offsets too.
std::optional<core::WallTime> ParseRfc3339(std::string_view text);

}  // namespace holdfast::providers
