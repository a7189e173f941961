#pragma once

// The little that the cache must know about text: characters, letters, case. Plain functions, safe
// from any thread. Lower-casing covers Latin, Greek and Cyrillic; other scripts stay as they are.

#include <string>
#include <string_view>

namespace holdfast::cache {

// Code points; what is not UTF-8 becomes U+FFFD, a byte at a time.
std::u32string DecodeUtf8(std::string_view text);
void AppendUtf8(std::string& out, char32_t c);

char32_t LowerCase(char32_t c);
bool IsSpace(char32_t c);
bool IsPunctuation(char32_t c);  // ASCII's, and the general and CJK blocks of it

// Two questions that differ only in case, white space or final punctuation are the same question.
std::string NormalizeQuestion(std::string_view question);

}  // namespace holdfast::cache
