#include "providers/http/sse_parser.h"

#include <algorithm>
#include <charconv>

namespace holdfast::providers {

void SseParser::Feed(std::string_view bytes, OnEvent on_event) {
  while (!bytes.empty()) {
    if (after_cr_) {
      after_cr_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    const auto end =
        std::find_if(bytes.begin(), bytes.end(), [](char c) { return c == '\n' || c == '\r'; });
    const size_t length = static_cast<size_t>(end - bytes.begin());
    if (length == bytes.size()) {
      Buffer(bytes);
      return;
    }
    after_cr_ = *end == '\r';
    EndLine(bytes.substr(0, length), on_event);
    bytes.remove_prefix(length + 1);
  }
}

void SseParser::Finish(OnEvent on_event) {
  if (!line_.empty() || too_long_) EndLine({}, on_event);
  Dispatch(on_event);
}

void SseParser::Buffer(std::string_view part) {
  if (too_long_) return;
  if (line_.size() + part.size() <= max_line_) {
    line_.append(part);
    return;
  }
  too_long_ = true;
  line_.clear();
}

void SseParser::EndLine(std::string_view tail, OnEvent on_event) {
  // Most lines come whole and are read where they are.
  const bool whole = line_.empty() && !too_long_ && tail.size() <= max_line_;
  if (!whole) Buffer(tail);
  if (too_long_) {
    ++skipped_lines_;
  } else {
    OnLine(whole ? tail : std::string_view(line_), on_event);
  }
  too_long_ = false;
  first_line_ = false;
  line_.clear();
}

void SseParser::OnLine(std::string_view line, OnEvent on_event) {
  if (first_line_ && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  if (line.empty()) {
    Dispatch(on_event);
    return;
  }
  const size_t colon = line.find(':');
  if (colon == 0) return;  // a comment
  if (colon == std::string_view::npos) {
    OnField(line, {});
    return;
  }
  std::string_view value = line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  OnField(line.substr(0, colon), value);
}

void SseParser::OnField(std::string_view name, std::string_view value) {
  if (name == "data") {
    OnData(value);
  } else if (name == "event") {
    event_ = value;
  } else if (name == "id") {
    if (value.find('\0') == std::string_view::npos) last_event_id_ = value;
  } else if (name == "retry") {
    uint64_t millis = 0;
    const char* const end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, millis);
    if (error == std::errc() && rest == end) retry_millis_ = millis;
  }
}

void SseParser::OnData(std::string_view value) {
  if (drop_event_ || data_.size() + (has_data_ ? 1 : 0) + value.size() > max_line_) {
    drop_event_ = true;
    ++skipped_lines_;
    return;
  }
  if (has_data_) data_.push_back('\n');
  data_.append(value);
  has_data_ = true;
}

void SseParser::Dispatch(OnEvent on_event) {
  if (has_data_ && !drop_event_) {
    on_event(event_.empty() ? std::string_view("message") : std::string_view(event_), data_);
  }
  event_.clear();
  data_.clear();
  has_data_ = false;
  drop_event_ = false;
}

}  // namespace holdfast::providers
