#pragma once

// From what a provider answered to a row of the outcome table: a total function. What the error
// object says goes before the HTTP status, by a table for each kind of provider; what nobody knows
// is a server error. Pure functions, any thread.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/outcome.h"
#include "providers/http/http_client.h"
#include "providers/json.h"
#include "providers/provider_options.h"

namespace holdfast::providers {

// What an error object says, whatever its shape.
struct ApiError {
  std::vector<std::string> words;  // its codes, types and reasons, in lower case
  std::string message;             // as it came
  int status = 0;                  // an HTTP status inside the object; 0 = none
  std::string retry_delay;         // Gemini's RetryInfo
};

// `value` is the error object, or the document or array around it.
ApiError ReadApiError(JsonValue value);

// `http_status` 0: there is none, or it is a success that hid the error.
core::OutcomeKind ClassifyError(Kind kind, int http_status, const ApiError& error);

// What a failure is read from besides the error itself.
struct FailureContext {
  Kind kind = Kind::kOpenAi;
  int http_status = 0;
  const HttpHeaders& headers;
  const core::Clock& clock;                 // for dates in headers
  const std::vector<std::string>& secrets;  // not to be repeated in Outcome::error
};

// A response with a status that is no success, and as much of its body as was kept.
core::Outcome ClassifyResponse(const FailureContext& context, std::string_view body);

// An error inside a stream whose status was a success.
core::Outcome ClassifyInStream(const FailureContext& context, const ApiError& error);

}  // namespace holdfast::providers
