#pragma once

// Where an answer goes while it is being made. The engine calls it on the call's loop and never
// after Engine::Run's task has completed; the result then says how it all ended. Whoever only
// appends what comes, and forgets it at OnReset, has exactly the result's text and tool calls.

#include <optional>
#include <string_view>

#include "core/answer.h"
#include "core/valve.h"

namespace holdfast::core {

// Who answers, as far as is known at that moment.
struct StreamStart {
  std::optional<TargetName> served_by;  // none: the notice alone
  Degradation degradation = Degradation::kNone;
  std::optional<CacheHit> cache_hit;  // of a stored answer
};

class AnswerStream {
 public:
  virtual ~AnswerStream() = default;

  // Once, right before the first content.
  virtual void OnStarted(const StreamStart& start) = 0;
  // Never empty; whole UTF-8 characters.
  virtual void OnText(std::string_view text) = 0;
  // A fragment of tool call `index`, as core::AttemptSink has it.
  virtual void OnToolCall(int index, std::string_view id, std::string_view name,
                          std::string_view arguments) = 0;
  // Another attempt takes over; what follows continues what was sent.
  virtual void OnContinued(const StreamStart& start) = 0;
  // What was sent is void; a whole answer follows.
  virtual void OnReset(const StreamStart& start) = 0;

  // Closed by the stream while its reader does not keep up.
  virtual Valve& valve() = 0;
};

}  // namespace holdfast::core
