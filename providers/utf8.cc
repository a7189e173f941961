#include "providers/utf8.h"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace holdfast::providers {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Stand-ins are U+10F000 to U+10FFFF: a byte is U+10F000 + byte, a surrogate U+10F800 + its place
// among the surrogates. All start with these two bytes; a real character of that range is split
// into stand-ins too, so none is mistaken.
constexpr std::string_view kStandInStart = "\xF4\x8F";
constexpr char32_t kByteBase = 0x10F000;
constexpr char32_t kSurrogateBase = 0x10F800;
constexpr char32_t kFirstHighInStandIns = 0xDBFC;  // U+10F000 is DBFC DC00

bool IsHigh(char32_t c) { return c >= 0xD800 && c < 0xDC00; }
bool IsLow(char32_t c) { return c >= 0xDC00 && c < 0xE000; }
bool IsContinuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// How many bytes a character with this first byte has; 0 if none starts so.
size_t SequenceLength(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  if (first >= 0xF0 && first < 0xF5) return 4;
  return 0;
}

// Whether `text`, no longer than a character, is the start of a valid one or all of it.
bool StartsCharacter(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (text.size() > SequenceLength(first)) return false;
  if (text.size() == 1) return true;
  const auto second = static_cast<unsigned char>(text[1]);
  if (first == 0xE0 && second < 0xA0) return false;  // overlong
  if (first == 0xED && second > 0x9F) return false;  // a surrogate
  if (first == 0xF0 && second < 0x90) return false;  // overlong
  if (first == 0xF4 && second > 0x8F) return false;  // beyond U+10FFFF
  return std::all_of(text.begin() + 1, text.end(),
                     [](char c) { return IsContinuation(static_cast<unsigned char>(c)); });
}

void AppendUtf8(char32_t c, std::string& out) {
  const auto add = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x10000) {
    add(0xE0 | (c >> 12));
  } else {
    add(0xF0 | (c >> 18));
    add(0x80 | ((c >> 12) & 0x3F));
  }
  add(0x80 | ((c >> 6) & 0x3F));
  add(0x80 | (c & 0x3F));
}

void AppendByteStandIn(char byte, std::string& out) {
  AppendUtf8(kByteBase + static_cast<unsigned char>(byte), out);
}

// The code unit of a "\uXXXX" at the start of `text`.
std::optional<char32_t> ReadEscape(std::string_view text) {
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return std::nullopt;
  char32_t unit = 0;
  for (const char c : text.substr(2, 4)) {
    unit <<= 4;
    if (c >= '0' && c <= '9') {
      unit |= static_cast<char32_t>(c - '0');
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      unit |= static_cast<char32_t>((c | 0x20) - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return unit;
}

// Takes the escape at the start of `text`; returns how much of it was taken.
size_t MendEscape(std::string_view text, std::string& out) {
  const std::optional<char32_t> unit = ReadEscape(text);
  if (unit && (IsHigh(*unit) || IsLow(*unit))) {
    const std::optional<char32_t> next = ReadEscape(text.substr(6));
    if (*unit < kFirstHighInStandIns && next && IsLow(*next)) {
      out.append(text.substr(0, 12));
      return 12;
    }
    AppendUtf8(kSurrogateBase + (*unit - 0xD800), out);
    return 6;
  }
  out.append(text.substr(0, 2));
  return std::min<size_t>(2, text.size());
}

size_t MendCharacter(std::string_view text, std::string& out) {
  const size_t length = Utf8Length(text);
  if (length > 0 && !text.starts_with(kStandInStart)) {
    out.append(text.substr(0, length));
    return length;
  }
  const size_t taken = std::max<size_t>(length, 1);
  for (const char byte : text.substr(0, taken)) AppendByteStandIn(byte, out);
  return taken;
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  const size_t length = SequenceLength(static_cast<unsigned char>(text[0]));
  if (length == 0 || text.size() < length) return 0;
  return StartsCharacter(text.substr(0, length)) ? length : 0;
}

std::string MendJson(std::string_view json) {
  std::string out;
  out.reserve(json.size() + 64);
  while (!json.empty()) {
    json.remove_prefix(json[0] == '\\' ? MendEscape(json, out) : MendCharacter(json, out));
  }
  return out;
}

void Utf8Joiner::Feed(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t length = std::max<size_t>(Utf8Length(text), 1);
    if (length == 4 && text.starts_with(kStandInStart)) {
      const auto third = static_cast<unsigned char>(text[2]);
      const auto fourth = static_cast<unsigned char>(text[3]);
      const char32_t place = ((third & 0x3Fu) << 6) | (fourth & 0x3Fu);
      if (place < 0x100) {
        FeedByte(static_cast<char>(place), out);
      } else {
        FeedSurrogate(0xD800 + (kByteBase + place - kSurrogateBase), out);
      }
    } else {
      Flush(out);
      out.append(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
}

void Utf8Joiner::FeedByte(char byte, std::string& out) {
  if (high_surrogate_ != 0) Flush(out);
  bytes_.push_back(byte);
  if (Utf8Length(bytes_) == bytes_.size()) {
    out.append(bytes_);
    bytes_.clear();
  } else if (!StartsCharacter(bytes_)) {
    const bool retry = bytes_.size() > 1;  // the byte may start a character of its own
    bytes_.clear();
    out.append(kReplacement);
    if (retry) FeedByte(byte, out);
  }
}

void Utf8Joiner::FeedSurrogate(char32_t surrogate, std::string& out) {
  if (IsLow(surrogate) && high_surrogate_ != 0) {
    AppendUtf8(0x10000 + ((high_surrogate_ - 0xD800) << 10) + (surrogate - 0xDC00), out);
    high_surrogate_ = 0;
    return;
  }
  Flush(out);
  if (IsHigh(surrogate)) {
    high_surrogate_ = surrogate;
  } else {
    out.append(kReplacement);
  }
}

void Utf8Joiner::Flush(std::string& out) {
  if (idle()) return;
  bytes_.clear();
  high_surrogate_ = 0;
  out.append(kReplacement);
}

std::string_view Utf8Prefix(std::string_view text, size_t max) {
  if (text.size() <= max) return text;
  size_t end = max;
  while (end > 0 && IsContinuation(static_cast<unsigned char>(text[end]))) --end;
  return text.substr(0, end);
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  Utf8Joiner joiner;
  for (const char byte : bytes) joiner.FeedByte(byte, out);
  joiner.Flush(out);
  return out;
}

}  // namespace holdfast::providers
