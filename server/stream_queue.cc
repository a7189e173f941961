#include "server/stream_queue.h"

#include <optional>
#include <utility>

#include "server/proto_convert.h"
#include "server/text.h"

namespace holdfast::server {
namespace {

// What a start says of the answer, into any event that has these fields.
template <typename Event>
void SetStart(const core::StreamStart& start, Event& event) {
  if (start.served_by) *event.mutable_served_by() = ToProto(*start.served_by);
  event.set_degradation(ToProto(start.degradation));
}

// Whoever must not see broken text breaks the whole event over it, so we do not trust.
std::string_view Utf8Of(std::string_view text, std::string& repaired) {
  if (IsUtf8(text)) return text;
  repaired = ToUtf8(std::string(text));
  return repaired;
}

// The beginning of `text` that still fits behind `size` bytes.
std::string_view Fitting(std::string_view text, size_t size) {
  return size >= StreamQueue::kMaxDelta ? std::string_view()
                                        : CutUtf8(text, StreamQueue::kMaxDelta - size);
}

}  // namespace

void StreamQueue::OnStarted(const core::StreamStart& start) {
  v1::StreamStarted& started = *Push().mutable_started();
  started.set_request_id(info_.request_id);
  started.set_route(info_.route);
  SetStart(start, started);
  if (start.cache_hit) *started.mutable_cache_hit() = ToProto(*start.cache_hit);
  on_event_();
}

void StreamQueue::OnText(std::string_view text) {
  if (!first_content_at_) first_content_at_ = clock_.Now();
  std::string repaired;
  AppendText(Utf8Of(text, repaired));
  on_event_();
}

void StreamQueue::OnToolCall(int index, std::string_view id, std::string_view name,
                             std::string_view arguments) {
  if (!first_content_at_) first_content_at_ = clock_.Now();
  if (!id.empty() || !name.empty()) {
    v1::ToolCallDelta& call = *Push().mutable_delta()->mutable_tool_call();
    call.set_index(index);
    call.set_id(ToUtf8(std::string(id)));
    call.set_name(ToUtf8(std::string(name)));
  }
  std::string repaired;
  AppendArguments(index, Utf8Of(arguments, repaired));
  on_event_();
}

void StreamQueue::OnContinued(const core::StreamStart& start) {
  SetStart(start, *Push().mutable_continued());
  on_event_();
}

void StreamQueue::OnReset(const core::StreamStart& start) {
  // What waits is void; only the start, without which there is no stream, still goes out.
  std::optional<v1::GenerateStreamResponse> started;
  if (!events_.empty() && events_.front().has_started()) started = std::move(events_.front());
  events_.clear();
  pending_bytes_ = 0;
  if (started) Push() = *std::move(started);
  v1::StreamReset& reset = *Push().mutable_reset();
  SetStart(start, reset);
  if (start.cache_hit) *reset.mutable_cache_hit() = ToProto(*start.cache_hit);
  valve_.Open();
  on_event_();
}

void StreamQueue::Finish(v1::GenerateResponse response) {
  if (response.has_message() && response.ByteSizeLong() > kMaxFinished) response.clear_message();
  *Push().mutable_finished() = std::move(response);
}

v1::GenerateStreamResponse StreamQueue::Take() {
  v1::GenerateStreamResponse event = std::move(events_.front());
  events_.pop_front();
  pending_bytes_ -= kEventBytes + TextBytes(event);
  if (pending_bytes_ <= limits_.low_water) valve_.Open();
  return event;
}

void StreamQueue::Clear() {
  events_.clear();
  pending_bytes_ = 0;
}

v1::GenerateStreamResponse& StreamQueue::Push() {
  Added(kEventBytes);
  return events_.emplace_back();
}

void StreamQueue::Added(size_t bytes) {
  pending_bytes_ += bytes;
  if (pending_bytes_ >= limits_.high_water) valve_.Close();
}

void StreamQueue::AppendText(std::string_view text) {
  while (!text.empty()) {
    std::string* waiting = nullptr;
    if (!events_.empty() && events_.back().delta().has_text()) {
      waiting = events_.back().mutable_delta()->mutable_text();
    }
    if (waiting == nullptr || Fitting(text, waiting->size()).empty()) {
      waiting = Push().mutable_delta()->mutable_text();
    }
    const std::string_view piece = Fitting(text, waiting->size());
    waiting->append(piece);
    Added(piece.size());
    text.remove_prefix(piece.size());
  }
}

void StreamQueue::AppendArguments(int index, std::string_view arguments) {
  while (!arguments.empty()) {
    std::string* waiting = nullptr;
    if (!events_.empty() && events_.back().delta().has_tool_call() &&
        events_.back().delta().tool_call().index() == index) {
      waiting = events_.back().mutable_delta()->mutable_tool_call()->mutable_arguments();
    }
    if (waiting == nullptr || Fitting(arguments, waiting->size()).empty()) {
      v1::ToolCallDelta& call = *Push().mutable_delta()->mutable_tool_call();
      call.set_index(index);
      waiting = call.mutable_arguments();
    }
    const std::string_view piece = Fitting(arguments, waiting->size());
    waiting->append(piece);
    Added(piece.size());
    arguments.remove_prefix(piece.size());
  }
}

size_t StreamQueue::TextBytes(const v1::GenerateStreamResponse& event) {
  return event.delta().text().size() + event.delta().tool_call().arguments().size();
}

}  // namespace holdfast::server
