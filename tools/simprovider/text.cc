#include "tools/simprovider/text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace simprovider {
namespace {

constexpr size_t kMaxTokenBytes = 12;

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }
bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

char Lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

size_t CodePointFloor(std::string_view text, size_t at) {
  if (at >= text.size()) return text.size();
  while (at > 0 && IsContinuation(text[at])) --at;
  return at;
}

std::string_view CutAtCodePoint(std::string_view text, size_t bytes) {
  return text.substr(0, CodePointFloor(text, bytes));
}

std::vector<std::string_view> Tokens(std::string_view text) {
  std::vector<std::string_view> tokens;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (end < text.size() && IsSpace(text[end]) && end - begin < kMaxTokenBytes) ++end;
    while (end < text.size() && !IsSpace(text[end]) && end - begin < kMaxTokenBytes) ++end;
    size_t floor = CodePointFloor(text, end);
    if (floor <= begin) {
      floor = end + 1;
      while (floor < text.size() && IsContinuation(text[floor])) ++floor;
    }
    tokens.push_back(text.substr(begin, floor - begin));
    begin = floor;
  }
  return tokens;
}

std::vector<std::string_view> EvenPieces(std::string_view text, size_t count) {
  std::vector<std::string_view> pieces;
  size_t begin = 0;
  for (size_t i = 1; i <= count && begin < text.size(); ++i) {
    size_t end = CodePointFloor(text, text.size() * i / count);
    if (end <= begin) continue;
    pieces.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

int TokensOfBytes(size_t bytes) { return static_cast<int>((bytes + 3) / 4); }

void AppendQuoted(std::string& out, std::string_view text) {
  out.push_back('"');
  size_t plain = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default: {
        char escape[8];
        std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
        out += escape;
      }
    }
  }
  out.append(text, plain, text.size() - plain);
  out.push_back('"');
}

std::string Quoted(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  AppendQuoted(out, text);
  return out;
}

uint64_t HashOf(std::string_view text, uint64_t seed) {
  uint64_t hash = seed;
  for (char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  return hash;
}

uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

std::string Base62(uint64_t seed, size_t length) {
  static constexpr char kDigits[] =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string out(length, '0');
  uint64_t bits = 0;
  for (size_t i = 0; i < length; ++i) {
    if (i % 10 == 0) bits = Mix(seed + i);
    out[i] = kDigits[bits % 62];
    bits /= 62;
  }
  return out;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return Lower(x) == Lower(y); });
}

bool ContainsIgnoringCase(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [](char x, char y) { return Lower(x) == Lower(y); }) != text.end();
}

std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
                        HexDigit(text[i + 2]) >= 0;
    if (!escape) {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2])));
    i += 2;
  }
  return out;
}

std::string QueryValue(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == key) {
      return equals < pair.size() ? PercentDecoded(pair.substr(equals + 1)) : "";
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return "";
}

std::string SecondsText(double seconds) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.9g", seconds);
  return std::string(text) + "s";
}

}  // namespace simprovider
