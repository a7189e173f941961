#include "cache/text.h"

#include <cstddef>
#include <cstdint>

namespace holdfast::cache {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

bool Between(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

// Reads the character at `text[at]` and moves `at` behind it.
char32_t ReadCharacter(std::string_view text, size_t& at) {
  const auto lead = static_cast<uint8_t>(text[at++]);
  if (lead < 0x80) return lead;
  const size_t following = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < following) return kReplacement;
  char32_t c = lead & (0x3Fu >> following);
  for (size_t i = 0; i < following; ++i) {
    const auto byte = static_cast<uint8_t>(text[at + i]);
    if ((byte & 0xC0) != 0x80) return kReplacement;
    c = c << 6 | (byte & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  if (c < kSmallest[following] || c > 0x10FFFF || Between(c, 0xD800, 0xDFFF)) return kReplacement;
  at += following;
  return c;
}

bool EndsSentence(char32_t c) {
  switch (c) {
    case '.':
    case '?':
    case '!':
    case ',':
    case ';':
    case ':':
    case 0x2026:  // ellipsis
    case 0x3002:
    case 0xFF1F:
    case 0xFF01:  // full stop, question and exclamation mark of CJK
    case 0x061F:  // the Arabic question mark
      return true;
    default:
      return false;
  }
}

}  // namespace

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string characters;
  characters.reserve(text.size());
  for (size_t at = 0; at < text.size();) characters += ReadCharacter(text, at);
  return characters;
}

void AppendUtf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const int following = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kLead[following] | c >> (6 * following));
  for (int i = following - 1; i >= 0; --i) out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3F));
}

char32_t LowerCase(char32_t c) {
  if (Between(c, 'A', 'Z')) return c + 32;
  if (c < 0xC0) return c;
  if (Between(c, 0xC0, 0xDE) && c != 0xD7) return c + 32;
  if (c == 0x130) return 'i';  // the dotted capital I has no partner of its own
  if (c == 0x178) return 0xFF;
  // In Latin Extended-A, pairs start at an even number, but in two stretches at an odd one.
  if (Between(c, 0x139, 0x148) || Between(c, 0x179, 0x17E)) return c % 2 == 1 ? c + 1 : c;
  if (Between(c, 0x100, 0x137) || Between(c, 0x14A, 0x177)) return c % 2 == 0 ? c + 1 : c;
  if (Between(c, 0x391, 0x3AB) && c != 0x3A2) return c + 32;
  if (Between(c, 0x410, 0x42F)) return c + 32;
  if (Between(c, 0x400, 0x40F)) return c + 80;
  return c;
}

bool IsSpace(char32_t c) {
  return Between(c, '\t', '\r') || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         Between(c, 0x2000, 0x200B) || Between(c, 0x2028, 0x2029) || c == 0x202F || c == 0x205F ||
         c == 0x3000 || c == 0xFEFF;
}

bool IsPunctuation(char32_t c) {
  return Between(c, '!', '/') || Between(c, ':', '@') || Between(c, '[', '`') ||
         Between(c, '{', '~') || c == 0xA1 || c == 0xBF || c == 0xAB || c == 0xBB ||
         Between(c, 0x2010, 0x2027) || Between(c, 0x2030, 0x205E) || c == 0x061F ||
         Between(c, 0x3001, 0x3003) || Between(c, 0x3008, 0x3011) || Between(c, 0xFF01, 0xFF0F) ||
         Between(c, 0xFF1A, 0xFF1F);
}

std::string NormalizeQuestion(std::string_view question) {
  std::u32string characters;
  bool space_due = false;
  for (const char32_t c : DecodeUtf8(question)) {
    if (IsSpace(c)) {
      space_due = !characters.empty();
      continue;
    }
    if (space_due) characters += U' ';
    space_due = false;
    characters += LowerCase(c);
  }
  size_t end = characters.size();
  while (end > 0 && (EndsSentence(characters[end - 1]) || characters[end - 1] == ' ')) --end;
  if (end == 0) end = characters.size();  // nothing but punctuation: then that is the question
  std::string normalized;
  for (const char32_t c : std::u32string_view(characters).substr(0, end)) AppendUtf8(normalized, c);
  return normalized;
}

}  // namespace holdfast::cache
