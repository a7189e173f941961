#include "tools/holdfastctl/terminal_text.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace holdfast::ctl {
namespace {

struct CodePoint {
  uint32_t value = 0;
  size_t length = 1;
  bool valid = false;
};

CodePoint Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1, true};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {first, 1, false};
  uint32_t value = first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {first, 1, false};
    value = (value << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (overlong || surrogate || value > 0x10ffff) return {first, 1, false};
  return {value, length, true};
}

bool IsControl(uint32_t value) { return value < 0x20 || (value >= 0x7f && value < 0xa0); }

std::string Hex(const char* format, uint32_t value) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

std::string Named(uint32_t value) {
  if (value == '\n') return "\\n";
  if (value == '\t') return "\\t";
  if (value == '\r') return "\\r";
  return Hex("\\x%02x", value);
}

std::string Escape(std::string_view text, bool one_line) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint point = Decode(text);
    const bool keep = !one_line && (point.value == '\n' || point.value == '\t');
    if (!one_line && text.substr(0, 2) == "\r\n") {
      out += "";
    } else if (point.valid && (keep || !IsControl(point.value))) {
      out += text.substr(0, point.length);
    } else {
      out += Named(point.value);
    }
    text.remove_prefix(point.length);
  }
  return out;
}

// In columns of a terminal, taking every character for one wide.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

const char* Code(Colour colour) {
  switch (colour) {
    case Colour::kPlain:
      return "";
    case Colour::kBold:
      return "\x1b[1m";
    case Colour::kDim:
      return "\x1b[2m";
    case Colour::kRed:
      return "\x1b[31m";
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kCyan:
      return "\x1b[36m";
  }
  return "";
}

}  // namespace

std::string Paint::operator()(Colour colour, std::string_view text) const {
  if (!coloured_ || colour == Colour::kPlain || text.empty()) return std::string(text);
  return Code(colour) + std::string(text) + "\x1b[0m";
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = Decode(text);
    if (!point.valid) return false;
    text.remove_prefix(point.length);
  }
  return true;
}

std::string EscapeText(std::string_view text) { return Escape(text, false); }
std::string EscapeLine(std::string_view text) { return Escape(text, true); }

std::string EscapeJson(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  while (!json.empty()) {
    const CodePoint point = Decode(json);
    if (point.valid && point.value >= 0x7f && IsControl(point.value)) {
      out += Hex("\\u%04x", point.value);
    } else {
      out += json.substr(0, point.length);
    }
    json.remove_prefix(point.length);
  }
  return out;
}

std::string Table::ToString(const Paint& paint, bool has_heading) const {
  std::vector<size_t> widths;
  std::vector<bool> used;
  for (size_t r = 0; r < rows_.size(); ++r) {
    widths.resize(std::max(widths.size(), rows_[r].size()));
    used.resize(widths.size());
    for (size_t c = 0; c < rows_[r].size(); ++c) {
      const size_t width = Width(EscapeLine(rows_[r][c].text));
      widths[c] = std::max(widths[c], width);
      if (width > 0 && (r > 0 || !has_heading)) used[c] = true;
    }
  }
  std::string out;
  for (const std::vector<Cell>& row : rows_) {
    std::string line(indent_, ' ');
    size_t pending = 0;  // blanks owed, so that no line ends in any
    for (size_t c = 0; c < row.size(); ++c) {
      if (!used[c]) continue;
      const std::string text = EscapeLine(row[c].text);
      if (!text.empty()) {
        line += std::string(pending, ' ') + paint(row[c].colour, text);
        pending = 0;
      }
      pending += widths[c] - Width(text) + 2;
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace holdfast::ctl
