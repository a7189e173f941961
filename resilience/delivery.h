#pragma once

// What the caller of a stream has of the answer, and each attempt's way to add to it (section 7 of
// the rules: commit, continue, restart, the seam between two attempts). A Delivery belongs to one
// Call and lives on its loop. Without a stream nothing is ever committed, and attempts only learn
// which of them was first to bring content.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/answer_stream.h"
#include "core/request.h"
#include "resilience/attempt.h"

namespace holdfast::resilience {

class Delivery {
 public:
  // `stream` may be null; it outlives the delivery, as does `request`.
  Delivery(core::AnswerStream* stream, const core::Request& request)
      : stream_(stream), request_(request) {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  bool streams() const { return stream_ != nullptr; }
  // Content has reached the caller: from here on nothing that breaks is invisible.
  bool committed() const { return committed_; }
  // Whether what was sent can be the beginning of an answer: plain text of a plain request, and
  // not only white space. Half a tool call, half a JSON document or a refusal never is.
  bool resumable() const;
  // What was sent is a refusal, and stays so until another attempt begins again.
  void MarkRefused() { refused_ = true; }
  bool refused() const { return refused_; }
  const std::string& text() const { return text_; }
  const std::vector<core::ToolCall>& tool_calls() const { return tool_calls_; }
  core::Valve* valve() const { return stream_ == nullptr ? nullptr : &stream_->valve(); }

  // One attempt's way to the caller. Its first content makes it the one that is heard: it starts,
  // continues or restarts the answer, and content of any other turn is dropped from then on.
  class Turn final : public ContentListener {
   public:
    // `continues`: the attempt is asked to go on from prefix(). `on_first` is called with its first
    // content, unless another turn came first.
    Turn(Delivery& delivery, core::StreamStart start, bool continues,
         std::function<void()> on_first = {});
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    // The text that a continuing attempt is given: what was sent, without white space at its end,
    // which some providers refuse. Empty for a fresh answer.
    const std::string& prefix() const { return prefix_; }
    // Whether this turn is the one that is heard.
    bool heard() const { return delivery_.heard_ == this; }

    void OnText(std::string_view text) override;
    void OnToolCall(int index, std::string_view id, std::string_view name,
                    std::string_view arguments) override;
    // The attempt came to its end: what was held back at the seam goes out.
    void Close();

   private:
    bool Claim();
    void Open();
    void Emit(std::string_view text);

    Delivery& delivery_;
    const core::StreamStart start_;
    const std::function<void()> on_first_;
    std::string prefix_;
    std::string seam_;  // the white space that prefix_ lacks; dropped once if it comes again
    std::string held_;  // a beginning of seam_, until it is clear whether all of it comes
    bool claimed_ = false;
    bool opened_ = false;
  };

  // Makes what the caller has equal to `answer`: sends it whole, after a reset if something else
  // was sent before.
  void Complete(const core::Answer& answer);

 private:
  void Begin(const core::StreamStart& start, bool continues);
  void SendText(std::string_view text);

  core::AnswerStream* const stream_;
  const core::Request& request_;
  const Turn* heard_ = nullptr;
  bool committed_ = false;
  bool refused_ = false;
  std::string text_;
  std::vector<core::ToolCall> tool_calls_;
};

// The bytes of white space, Unicode's included, at the end of `text`.
size_t TrailingSpace(std::string_view text);

}  // namespace holdfast::resilience
