#include "core/answer_cache.h"
#include "core/check.h"
#include "core/outcome.h"
#include "core/provider.h"
#include "core/request.h"

namespace holdfast::core {

const char* Name(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
    case Role::kTool:
      return "tool";
  }
  HOLDFAST_CHECK(false);
}

const char* Name(Degradation degradation) {
  switch (degradation) {
    case Degradation::kNone:
      return "none";
    case Degradation::kFallbackModel:
      return "fallback_model";
    case Degradation::kStale:
      return "stale";
    case Degradation::kPartial:
      return "partial";
  }
  HOLDFAST_CHECK(false);
}

const char* Name(OutcomeKind kind) {
  switch (kind) {
    case OutcomeKind::kComplete:
      return "complete";
    case OutcomeKind::kRefusal:
      return "refusal";
    case OutcomeKind::kBadRequest:
      return "bad_request";
    case OutcomeKind::kContextLength:
      return "context_length";
    case OutcomeKind::kModelNotFound:
      return "model_not_found";
    case OutcomeKind::kAuth:
      return "auth";
    case OutcomeKind::kQuota:
      return "quota";
    case OutcomeKind::kRateLimited:
      return "rate_limited";
    case OutcomeKind::kRequestTimeout:
      return "request_timeout";
    case OutcomeKind::kConflict:
      return "conflict";
    case OutcomeKind::kServerError:
      return "server_error";
    case OutcomeKind::kMalformed:
      return "malformed";
    case OutcomeKind::kOverloaded:
      return "overloaded";
    case OutcomeKind::kInvalidJson:
      return "invalid_json";
    case OutcomeKind::kConnect:
      return "connect";
    case OutcomeKind::kPooledReset:
      return "pooled_reset";
    case OutcomeKind::kCut:
      return "cut";
    case OutcomeKind::kTimeout:
      return "timeout";
    case OutcomeKind::kTimeoutShortened:
      return "timeout_shortened";
    case OutcomeKind::kOutOfTime:
      return "out_of_time";
    case OutcomeKind::kPaused:
      return "paused";
    case OutcomeKind::kBeaten:
      return "beaten";
    case OutcomeKind::kCancelled:
      return "cancelled";
  }
  HOLDFAST_CHECK(false);
}

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kUnspecified:
      return "unspecified";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kToolCalls:
      return "tool_calls";
    case FinishReason::kContentFilter:
      return "content_filter";
    case FinishReason::kRefusal:
      return "refusal";
  }
  HOLDFAST_CHECK(false);
}

}  // namespace holdfast::core
