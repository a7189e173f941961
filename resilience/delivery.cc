#include "resilience/delivery.h"

#include <algorithm>
#include <array>
#include <utility>

namespace holdfast::resilience {
namespace {

// White_Space of Unicode beyond ASCII, as UTF-8.
constexpr std::array<std::string_view, 19> kWideSpaces = {
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

size_t LastSpace(std::string_view text) {
  if (text.empty()) return 0;
  const char last = text.back();
  if (last == ' ' || (last >= '\t' && last <= '\r') || (last >= 0x1C && last <= 0x1F)) return 1;
  for (std::string_view space : kWideSpaces) {
    if (text.ends_with(space)) return space.size();
  }
  return 0;
}

}  // namespace

size_t TrailingSpace(std::string_view text) {
  size_t size = 0;
  while (const size_t more = LastSpace(text.substr(0, text.size() - size))) size += more;
  return size;
}

bool Delivery::resumable() const {
  return !refused_ && request_.response_format.kind == core::ResponseFormat::Kind::kText &&
         tool_calls_.empty() && TrailingSpace(text_) < text_.size();
}

void Delivery::Begin(const core::StreamStart& start, bool continues) {
  if (!committed_) {
    committed_ = true;
    stream_->OnStarted(start);
  } else if (continues) {
    stream_->OnContinued(start);
  } else {
    refused_ = false;
    text_.clear();
    tool_calls_.clear();
    stream_->OnReset(start);
  }
}

void Delivery::SendText(std::string_view text) {
  text_ += text;
  stream_->OnText(text);
}

void Delivery::Complete(const core::Answer& answer) {
  if (stream_ == nullptr) return;
  const auto same = [](const core::ToolCall& a, const core::ToolCall& b) {
    return a.id == b.id && a.name == b.name && a.arguments == b.arguments;
  };
  if (committed_ && answer.text == text_ &&
      std::ranges::equal(answer.tool_calls, tool_calls_, same))
    return;
  Begin({answer.served_by, answer.degradation, answer.cache_hit}, /*continues=*/false);
  if (!answer.text.empty()) SendText(answer.text);
  for (size_t i = 0; i < answer.tool_calls.size(); ++i) {
    const core::ToolCall& call = answer.tool_calls[i];
    stream_->OnToolCall(static_cast<int>(i), call.id, call.name, call.arguments);
  }
  tool_calls_ = answer.tool_calls;
}

Delivery::Turn::Turn(Delivery& delivery, core::StreamStart start, bool continues,
                     std::function<void()> on_first)
    : delivery_(delivery), start_(std::move(start)), on_first_(std::move(on_first)) {
  if (!continues) return;
  const std::string& sent = delivery_.text_;
  const size_t spaces = TrailingSpace(sent);
  prefix_ = sent.substr(0, sent.size() - spaces);
  seam_ = sent.substr(sent.size() - spaces);
}

Delivery::Turn::~Turn() {
  if (heard()) delivery_.heard_ = nullptr;
}

// False if another turn is the one that is heard.
bool Delivery::Turn::Claim() {
  if (claimed_) return heard();
  if (delivery_.heard_ != nullptr) return false;
  claimed_ = true;
  delivery_.heard_ = this;
  if (on_first_) on_first_();
  return true;
}

void Delivery::Turn::Open() {
  if (std::exchange(opened_, true)) return;
  delivery_.Begin(start_, !prefix_.empty());
}

void Delivery::Turn::Emit(std::string_view text) {
  if (text.empty()) return;
  Open();
  delivery_.SendText(text);
}

void Delivery::Turn::OnText(std::string_view text) {
  if (!Claim() || delivery_.stream_ == nullptr) return;
  if (!seam_.empty()) {
    held_ += text;
    if (held_.size() < seam_.size() && seam_.starts_with(held_)) return;
    if (held_.starts_with(seam_)) held_.erase(0, seam_.size());
    seam_.clear();
    Emit(std::exchange(held_, {}));
    return;
  }
  Emit(text);
}

void Delivery::Turn::OnToolCall(int index, std::string_view id, std::string_view name,
                                std::string_view arguments) {
  if (!Claim() || delivery_.stream_ == nullptr) return;
  Close();
  Open();
  std::vector<core::ToolCall>& calls = delivery_.tool_calls_;
  if (calls.size() <= static_cast<size_t>(index)) calls.resize(index + 1);
  core::ToolCall& call = calls[index];
  if (!id.empty()) call.id = id;
  if (!name.empty()) call.name = name;
  call.arguments += arguments;
  delivery_.stream_->OnToolCall(index, id, name, arguments);
}

void Delivery::Turn::Close() {
  if (delivery_.stream_ == nullptr || !heard()) return;
  seam_.clear();
  Emit(std::exchange(held_, {}));
}

}  // namespace holdfast::resilience
