#include "providers/error_text.h"

#include <algorithm>
#include <array>

#include "providers/utf8.h"

namespace holdfast::providers {
namespace {

constexpr std::string_view kMask = "***";
constexpr size_t kMinSecret = 6;
constexpr std::array<std::string_view, 5> kKeyStarts = {"sk-", "AIza", "gsk_", "xai-", "pk-"};
constexpr size_t kMinKeyRest = 4;

bool IsAlnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsKeyChar(char c) { return IsAlnum(c) || c == '-' || c == '_' || c == '*'; }

bool LooksLikeKey(std::string_view word) {
  if (word.find(kMask) != std::string_view::npos) return true;  // "abcd*****wxyz" shows its ends
  return std::any_of(kKeyStarts.begin(), kKeyStarts.end(), [word](std::string_view start) {
    return word.starts_with(start) && word.size() >= start.size() + kMinKeyRest;
  });
}

void ReplaceAll(std::string& text, std::string_view what) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at)) {
    text.replace(at, what.size(), kMask);
    at += kMask.size();
  }
}

std::string MaskKeys(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto end =
        std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), IsKeyChar);
    const size_t length = static_cast<size_t>(end - text.begin()) - at;
    const std::string_view word = text.substr(at, length);
    if (length == 0) {
      out.push_back(text[at++]);
      continue;
    }
    out.append(LooksLikeKey(word) ? kMask : word);
    at += length;
  }
  return out;
}

// Control characters, C1 ones too, become spaces, and runs of spaces one.
std::string OnOneLine(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) ++i;
    if (c1 || c <= ' ' || c == 0x7F) {
      if (!out.empty() && out.back() != ' ') out.push_back(' ');
    } else {
      out.push_back(text[i]);
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string CleanErrorText(std::string_view text, const std::vector<std::string>& secrets) {
  std::string clean = ReplaceInvalidUtf8(text);
  for (const std::string& secret : secrets) {
    if (secret.size() >= kMinSecret) ReplaceAll(clean, secret);
  }
  return std::string(Utf8Prefix(OnOneLine(MaskKeys(clean)), kMaxErrorText));
}

}  // namespace holdfast::providers
