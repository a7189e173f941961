#pragma once

// One attempt at one target under the engine's timers: connect, first token, idle, attempt_timeout
// and what the plan allows. Whichever fires first ends the attempt and names its outcome. Runs on
// the call's loop; stateless between attempts.

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "core/answer.h"
#include "core/loop.h"
#include "core/provider.h"
#include "core/task.h"
#include "core/valve.h"
#include "resilience/route.h"

namespace holdfast::resilience {

struct AttemptLimits {
  AttemptTimeouts timeouts;
  core::SteadyTime first_content_by;  // the plan's or the share's, never later than end_by
  core::SteadyTime end_by;            // once content flows
};

inline constexpr core::Duration kMaxPause = std::chrono::seconds(60);

// Hears an attempt's content as it comes.
class ContentListener {
 public:
  virtual void OnText(std::string_view text) = 0;
  virtual void OnToolCall(int index, std::string_view id, std::string_view name,
                          std::string_view arguments) = 0;

 protected:
  ~ContentListener() = default;
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
  std::optional<core::Duration> first_content_after;  // from `started`

  bool has_content() const { return !text.empty() || !tool_calls.empty(); }
};

// Who may end an attempt, and who hears of it. What is borrowed outlives the task.
struct AttemptWiring {
  std::stop_token cancelled;            // the caller has gone; requested on the loop's thread
  std::stop_token hurry;                // end now, as if the time were up; likewise
  std::stop_token beaten;               // a hedge was faster; likewise
  ContentListener* listener = nullptr;  // may be null
  bool commits = false;  // content reaches the caller as it comes, and ends timeouts.attempt
};

// attempt.stop is set here; attempt.valve, if any, is the caller's.
core::Task<AttemptEnd> RunAttempt(core::Loop& loop, core::Provider& provider,
                                  const core::Request& request, core::Attempt attempt,
                                  AttemptLimits limits, AttemptWiring wiring);

}  // namespace holdfast::resilience
