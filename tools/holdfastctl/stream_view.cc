#include "tools/holdfastctl/stream_view.h"

#include <utility>

#include "tools/holdfastctl/render.h"

namespace holdfast::ctl {
namespace {

template <typename Event>
std::string Who(const Event& event) {
  return event.has_served_by() ? TargetText(event.served_by()) : std::string("the notice");
}

std::string Rung(v1::Degradation degradation) {
  switch (degradation) {
    case v1::DEGRADATION_FALLBACK_MODEL:
      return ", a fallback model";
    case v1::DEGRADATION_STALE:
      return ", a stored answer";
    case v1::DEGRADATION_PARTIAL:
      return ", partial";
    default:
      return "";
  }
}

Colour ColourOf(v1::Degradation degradation) {
  return degradation == v1::DEGRADATION_NONE ? Colour::kDim : Colour::kYellow;
}

}  // namespace

void StreamView::On(const v1::GenerateStreamResponse& event) {
  switch (event.event_case()) {
    case v1::GenerateStreamResponse::kStarted: {
      const v1::StreamStarted& started = event.started();
      if (!quiet_) {
        Note(ColourOf(started.degradation()),
             Who(started) + " begins" + Rung(started.degradation()));
      }
      return;
    }
    case v1::GenerateStreamResponse::kDelta:
      return OnDelta(event.delta());
    case v1::GenerateStreamResponse::kContinued: {
      const v1::StreamContinued& continued = event.continued();
      if (!quiet_) {
        Note(Colour::kYellow,
             Who(continued) + " goes on from here" + Rung(continued.degradation()));
      }
      return;
    }
    case v1::GenerateStreamResponse::kReset: {
      const v1::StreamReset& reset = event.reset();
      tool_calls_.clear();
      Note(Colour::kRed,
           "void so far: " + Who(reset) + " begins again" + Rung(reset.degradation()));
      return;
    }
    case v1::GenerateStreamResponse::kFinished:
      return OnFinished(event.finished());
    case v1::GenerateStreamResponse::EVENT_NOT_SET:
      return;  // of a newer server
  }
}

void StreamView::End() {
  if (std::exchange(in_line_, false)) console_.out << "\n" << std::flush;
}

void StreamView::OnDelta(const v1::StreamDelta& delta) {
  if (!delta.has_tool_call()) return Write(delta.text());
  const v1::ToolCallDelta& piece = delta.tool_call();
  constexpr int kMost = 10'000;  // no server that is right sends more
  if (piece.index() < 0 || piece.index() > kMost) return;
  const auto index = static_cast<size_t>(piece.index());
  if (tool_calls_.size() <= index) tool_calls_.resize(index + 1);
  v1::ToolCall& call = tool_calls_[index];
  if (!piece.name().empty()) call.set_name(piece.name());
  *call.mutable_arguments() += piece.arguments();
}

void StreamView::OnFinished(const v1::GenerateResponse& response) {
  End();
  for (const v1::ToolCall& call : tool_calls_) {
    Write(call.name() + "(" + call.arguments() + ")\n");
  }
  if (!quiet_) console_.err << RenderProvenance(response, paint_) << std::flush;
}

void StreamView::Note(Colour colour, const std::string& text) {
  // On one screen both come one below the other; elsewhere the answer is kept as it is.
  if (console_.out_is_terminal) End();
  console_.err << paint_(colour, "> " + EscapeLine(text)) << "\n" << std::flush;
}

void StreamView::Write(const std::string& text) {
  if (text.empty()) return;
  console_.out << (console_.out_is_terminal ? EscapeText(text) : text) << std::flush;
  in_line_ = text.back() != '\n';
}

}  // namespace holdfast::ctl
