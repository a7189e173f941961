#include "providers/reply.h"

#include <utility>

namespace holdfast::providers {
namespace {

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::string Hex(uint64_t number) {
  std::string hex(16, '0');
  for (auto digit = hex.rbegin(); digit != hex.rend(); ++digit, number >>= 4) {
    *digit = "0123456789abcdef"[number & 0xF];
  }
  return hex;
}

}  // namespace

Reply::Reply(core::AttemptSink& sink, std::string_view id_seed)
    : sink_(sink), id_seed_(Fnv1a(id_seed)) {}

void Reply::Text(std::string_view text) {
  if (text.empty()) return;
  if (!mended_ && text_joiner_.idle()) {
    EmitText(text);
    return;
  }
  std::string whole;
  if (mended_) {
    text_joiner_.Feed(text, whole);
  } else {
    text_joiner_.Flush(whole);
    whole.append(text);
  }
  EmitText(whole);
}

void Reply::EmitText(std::string_view text) {
  if (text.empty()) return;
  has_text_ = true;
  sink_.OnText(text);
}

void Reply::RefusalText(std::string_view text) {
  if (text.empty()) return;
  has_refusal_text_ = true;
  Text(text);
}

int Reply::OpenTool(std::string_view id, std::string_view name) {
  const int index = static_cast<int>(tools_.size());
  const std::string plain_id = id.empty() ? MakeToolId() : PlainText(id);
  tools_.emplace_back();
  sink_.OnToolCall(index, plain_id, PlainText(name), {});
  return index;
}

std::string Reply::MakeToolId() const {
  return "call_" + Hex(id_seed_) + "_" + std::to_string(tools_.size());
}

void Reply::ToolArguments(int index, std::string_view arguments) {
  if (arguments.empty()) return;
  Tool& tool = tools_[static_cast<size_t>(index)];
  tool.has_arguments = true;
  if (!mended_ && tool.joiner.idle()) {
    sink_.OnToolCall(index, {}, {}, arguments);
    return;
  }
  std::string whole;
  if (mended_) {
    tool.joiner.Feed(arguments, whole);
  } else {
    tool.joiner.Flush(whole);
    whole.append(arguments);
  }
  if (!whole.empty()) sink_.OnToolCall(index, {}, {}, whole);
}

void Reply::Finish(core::FinishReason reason) {
  if (failure_) return;
  if (!finish_ || reason != core::FinishReason::kStop) finish_ = reason;
}

void Reply::RefusePrompt(std::string_view why) {
  refusal_ = PlainText(why);
  Finish(core::FinishReason::kContentFilter);
}

void Reply::Fail(ApiError error) {
  if (!failure_ && !finish_) failure_ = Failure{std::move(error), {}};
}

void Reply::Fail(core::OutcomeKind kind, std::string_view why) {
  if (!failure_ && !finish_) failure_ = Failure{kind, PlainText(why)};
}

bool Reply::refused() const {
  return has_refusal_text_ || finish_ == core::FinishReason::kRefusal ||
         finish_ == core::FinishReason::kContentFilter;
}

void Reply::Close() {
  std::string rest;
  text_joiner_.Flush(rest);
  EmitText(rest);
  for (size_t i = 0; i < tools_.size(); ++i) {
    std::string arguments;
    tools_[i].joiner.Flush(arguments);
    if (!tools_[i].has_arguments) arguments = "{}";
    if (!arguments.empty()) sink_.OnToolCall(static_cast<int>(i), {}, {}, arguments);
  }
  core::FinishReason reason = *finish_;
  if (reason == core::FinishReason::kStop || reason == core::FinishReason::kUnspecified) {
    if (has_refusal_text_) {
      reason = core::FinishReason::kRefusal;
    } else if (!tools_.empty()) {
      reason = core::FinishReason::kToolCalls;
    }
  }
  sink_.OnFinish(reason);
}

}  // namespace holdfast::providers
