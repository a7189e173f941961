#pragma once

// Mends text that is not valid UTF-8, also when a character arrives in two halves: servers that
// stream token by token cut a character's bytes, or a surrogate pair, between two JSON strings.
// JSON parsers refuse such strings. So MendJson puts a stand-in (a code point nobody uses) for each
// stray byte and lone surrogate, and Utf8Joiner, fed with the parsed strings one after the other,
// puts the halves together again. What stays without its other half becomes U+FFFD.

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::providers {

// Length of the valid UTF-8 character at the start of `text`; 0 if there is none.
size_t Utf8Length(std::string_view text);

// JSON text whose strings a strict parser accepts.
std::string MendJson(std::string_view json);

class Utf8Joiner {
 public:
  // Appends the whole characters of `text`, a string out of mended JSON, to `out`.
  void Feed(std::string_view text, std::string& out);
  void FeedByte(char byte, std::string& out);

  // No other half will come.
  void Flush(std::string& out);

  bool idle() const { return bytes_.empty() && high_surrogate_ == 0; }

 private:
  void FeedSurrogate(char32_t surrogate, std::string& out);

  std::string bytes_;            // of a character that is not complete yet
  char32_t high_surrogate_ = 0;  // that waits for its low one
};

// The longest start of `text` of at most `max` bytes that cuts no character.
std::string_view Utf8Prefix(std::string_view text, size_t max);

// Any bytes as valid UTF-8.
std::string ReplaceInvalidUtf8(std::string_view bytes);

}  // namespace holdfast::providers
