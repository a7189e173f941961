#pragma once

// The seam between policy and providers. A Provider makes exactly one attempt and says how it
// ended; it never sleeps, retries, counts or times anything: the engine owns all timers and ends
// an attempt by its stop token. One Provider serves one target on one Loop and is used only on
// that loop's thread; it is stateless between attempts.

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "core/outcome.h"
#include "core/request.h"
#include "core/task.h"
#include "core/valve.h"

namespace holdfast::core {

enum class FinishReason { kUnspecified, kStop, kLength, kToolCalls, kContentFilter, kRefusal };
const char* Name(FinishReason reason);  // "stop", "length", "tool_calls", ...

// Receives one attempt's events, on the loop's thread, before Stream's task completes.
class AttemptSink {
 public:
  virtual ~AttemptSink() = default;

  // The request is written and goes out now: the attempt's time begins.
  virtual void OnStart() {}
  // The connection stands, TLS included, and the request is about to be sent.
  virtual void OnConnected() {}
  // Text of the answer; never empty; always whole UTF-8 characters.
  virtual void OnText(std::string_view text) = 0;
  // A fragment of tool call `index` (0, 1, ... in order of appearance). `id` and `name` come with
  // the first fragment of an index; `arguments` fragments concatenate to a JSON object.
  virtual void OnToolCall(int index, std::string_view id, std::string_view name,
                          std::string_view arguments) = 0;
  // The model is thinking, `bytes` of text: feeds the first-token and idle timers, commits nothing.
  virtual void OnReasoning(size_t bytes) { (void)bytes; }
  // The latest totals; replaces what was reported before.
  virtual void OnUsage(const Usage& usage) = 0;
  virtual void OnFinish(FinishReason reason) = 0;
};

struct Attempt {
  std::stop_token stop;         // requested on the loop's thread; ends the attempt as kCancelled
  std::string idempotency_key;  // the same for all attempts at one target
  int number = 1;               // of this target; from 2 on it is sent as x-holdfast-attempt
  // Continuation of a broken answer: the assistant's text so far. Empty = a fresh answer.
  std::string prefix;
  // While it is closed the provider reads nothing more from its socket; null = never closed.
  // Outlives the attempt.
  Valve* valve = nullptr;
};

class Provider {
 public:
  virtual ~Provider() = default;

  // Why this target cannot express the request ("tools are not supported"), or nothing.
  virtual std::optional<std::string> Inexpressible(const Request& request) const = 0;

  // Whether this kind of provider, as far as is known, continues an assistant's prefix.
  virtual bool ContinuesPrefix() const { return false; }

  // One attempt. `request`, `attempt` and `sink` outlive the task. kComplete and kRefusal only
  // after OnFinish; never kInvalidJson, kTimeout*, kOutOfTime: those are the engine's to say.
  virtual Task<Outcome> Stream(const Request& request, const Attempt& attempt,
                               AttemptSink& sink) = 0;
};

}  // namespace holdfast::core
