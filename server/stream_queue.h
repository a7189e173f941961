#pragma once

// The events of one stream that wait to be written. The engine puts them in as the answer is made;
// the reactor takes them out, one for each write. What waits is merged: neighbouring texts, and
// neighbouring pieces of one tool call, become one event, so a reader that is slower than the
// provider gets fewer and larger events, never late ones. Closes its valve when more waits than
// `high_water` and opens it again at `low_water`. Owned by its reactor; loop thread only.

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/answer_stream.h"
#include "core/clock.h"
#include "holdfast/v1/generate.pb.h"
#include "server/generate_service.h"
#include "server/request_log.h"

namespace holdfast::server {

class StreamQueue final : public core::AnswerStream {
 public:
  // No delta is larger, whatever a provider sends at once: a client takes 4 MiB by default.
  static constexpr size_t kMaxDelta = 64 << 10;
  // A finished event over this goes without its message.
  static constexpr size_t kMaxFinished = 4'000'000;

  // `info` is filled in before the first event. `on_event` is called after each one.
  StreamQueue(const RequestInfo& info, const StreamLimits& limits, const core::Clock& clock,
              std::function<void()> on_event)
      : info_(info), limits_(limits), clock_(clock), on_event_(std::move(on_event)) {}

  void OnStarted(const core::StreamStart& start) override;
  void OnText(std::string_view text) override;
  void OnToolCall(int index, std::string_view id, std::string_view name,
                  std::string_view arguments) override;
  void OnContinued(const core::StreamStart& start) override;
  void OnReset(const core::StreamStart& start) override;
  core::Valve& valve() override { return valve_; }

  // The last event. Does not call `on_event`.
  void Finish(v1::GenerateResponse response);

  std::optional<core::SteadyTime> first_content_at() const { return first_content_at_; }
  bool empty() const { return events_.empty(); }
  bool last() const { return events_.size() == 1; }
  // Not when empty.
  v1::GenerateStreamResponse Take();
  void Clear();

 private:
  // What an event takes besides its text, roughly.
  static constexpr size_t kEventBytes = 256;

  v1::GenerateStreamResponse& Push();
  void Added(size_t bytes);
  void AppendText(std::string_view text);
  void AppendArguments(int index, std::string_view arguments);
  static size_t TextBytes(const v1::GenerateStreamResponse& event);

  const RequestInfo& info_;
  const StreamLimits& limits_;
  const core::Clock& clock_;
  const std::function<void()> on_event_;
  core::Valve valve_;
  std::deque<v1::GenerateStreamResponse> events_;
  size_t pending_bytes_ = 0;
  std::optional<core::SteadyTime> first_content_at_;
};

}  // namespace holdfast::server
