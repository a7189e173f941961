#pragma once

// What one attempt's reply has amounted to so far. Decoders report into it in the wire's own order
// and with the wire's own quirks; it hands clean events to the attempt's sink and remembers what
// the end is judged by. One attempt, one loop; it borrows the sink.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/outcome.h"
#include "core/provider.h"
#include "providers/classify.h"
#include "providers/utf8.h"

namespace holdfast::providers {

class Reply {
 public:
  // Ids for tool calls that come without one are made from `id_seed`, so that they differ between
  // turns of a conversation: providers demand that.
  Reply(core::AttemptSink& sink, std::string_view id_seed);

  // Whether strings reported from now on hold stand-ins (providers/utf8.h).
  void set_mended(bool mended) { mended_ = mended; }

  void Text(std::string_view text);
  void RefusalText(std::string_view text);
  void Reasoning(size_t bytes) { sink_.OnReasoning(bytes); }
  void Usage(const core::Usage& usage) { sink_.OnUsage(usage); }

  // Begins a tool call and returns its index.
  int OpenTool(std::string_view id, std::string_view name);
  void ToolArguments(int index, std::string_view arguments);
  bool HasArguments(int index) const { return tools_[static_cast<size_t>(index)].has_arguments; }

  // The sink hears of it at the end, after all text. kStop does not replace another reason:
  // servers say it again in later chunks.
  void Finish(core::FinishReason reason);
  // The prompt itself was refused; `why` is the provider's word for it.
  void RefusePrompt(std::string_view why);
  // The provider's marker that nothing follows.
  void EndMarker() { end_marker_ = true; }

  // The first failure stays; after a finish reason there is none.
  void Fail(ApiError error);
  void Fail(core::OutcomeKind kind, std::string_view why);

  // Hands out what was held back, closes tool calls, and tells the sink of the finish.
  void Close();

  bool has_content() const { return has_text_ || !tools_.empty(); }
  bool finished() const { return finish_.has_value(); }
  bool refused() const;
  bool end_marker() const { return end_marker_; }
  const std::string& refusal() const { return refusal_; }

  struct Failure {
    std::variant<ApiError, core::OutcomeKind> what;
    std::string why;  // with an OutcomeKind
  };
  const std::optional<Failure>& failure() const { return failure_; }

 private:
  struct Tool {
    bool has_arguments = false;
    Utf8Joiner joiner;
  };

  std::string MakeToolId() const;
  void EmitText(std::string_view text);

  core::AttemptSink& sink_;
  const uint64_t id_seed_;
  bool mended_ = false;
  Utf8Joiner text_joiner_;
  bool has_text_ = false;
  bool has_refusal_text_ = false;
  std::deque<Tool> tools_;
  std::optional<core::FinishReason> finish_;
  bool end_marker_ = false;
  std::string refusal_;
  std::optional<Failure> failure_;
};

}  // namespace holdfast::providers
