#pragma once

// Small helpers for text that crosses the edge. Pure; any thread.

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::server {

bool IsUtf8(std::string_view text);

// `text` itself, or a copy with each byte that is no part of a UTF-8 character replaced by U+FFFD.
// Providers' words are theirs; a string in a response must be UTF-8 or clients refuse all of it.
std::string ToUtf8(std::string text);

// The longest beginning of at most `max_bytes` bytes that splits no character of UTF-8 `text`.
std::string_view CutUtf8(std::string_view text, size_t max_bytes);

// Characters (code points) of UTF-8 `text`.
size_t CountCharacters(std::string_view text);

}  // namespace holdfast::server
