#pragma once

// One attempt at one target under the engine's timers: connect, first token, idle, attempt_timeout
// and what the plan allows. Whichever fires first ends the attempt and names its outcome. Runs on
// the call's loop; stateless between attempts.

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/answer.h"
#include "core/loop.h"
#include "core/provider.h"
#include "core/task.h"
#include "resilience/route.h"

namespace holdfast::resilience {

struct AttemptLimits {
  AttemptTimeouts timeouts;
  core::SteadyTime first_content_by;  // the plan's or the share's, never later than end_by
  core::SteadyTime end_by;            // once content flows
};

struct AttemptEnd {
  core::Outcome outcome;
  std::string text;
  std::vector<core::ToolCall> tool_calls;
  core::FinishReason finish_reason = core::FinishReason::kUnspecified;
  core::Usage usage;
  bool usage_told = false;
  size_t reasoning_bytes = 0;  // of text that the model thought, as far as it was shown
  core::SteadyTime started;
  core::SteadyTime ended;

  bool has_content() const { return !text.empty() || !tool_calls.empty(); }
};

// `cancelled`: the caller has gone. `hurry`: end now, as if the time were up. Both are requested on
// the loop's thread. What is borrowed outlives the task.
core::Task<AttemptEnd> RunAttempt(core::Loop& loop, core::Provider& provider,
                                  const core::Request& request, core::Attempt attempt,
                                  AttemptLimits limits, std::stop_token cancelled,
                                  std::stop_token hurry);

}  // namespace holdfast::resilience
