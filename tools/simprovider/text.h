// Text helpers of the simulated provider: UTF-8 boundaries, tokens, JSON strings, hashes.
// Pure functions, any thread; views point into the caller's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace simprovider {

// The largest position <= `at` that does not lie inside a code point of `text`.
size_t CodePointFloor(std::string_view text, size_t at);

// `text` without its trailing bytes beyond `bytes`, cut between code points.
std::string_view CutAtCodePoint(std::string_view text, size_t bytes);

// The simulator's tokens: white space with the word after it, at most 12 bytes each, never cut
// inside a code point. Joined together they are `text` again.
std::vector<std::string_view> Tokens(std::string_view text);

// `count` pieces of about the same size; fewer when there are fewer code points.
std::vector<std::string_view> EvenPieces(std::string_view text, size_t count);

// The rough count a provider would bill for a prompt of that many bytes.
int TokensOfBytes(size_t bytes);

// Appends `text` as a JSON string, quotes included.
void AppendQuoted(std::string& out, std::string_view text);
std::string Quoted(std::string_view text);

uint64_t HashOf(std::string_view text, uint64_t seed = 14695981039346656037ULL);
uint64_t Mix(uint64_t value);

// `length` letters and digits, the same for the same seed.
std::string Base62(uint64_t seed, size_t length);

bool EqualsIgnoringCase(std::string_view a, std::string_view b);
bool ContainsIgnoringCase(std::string_view text, std::string_view part);
std::string PercentDecoded(std::string_view text);

// The decoded value of `key` in a URL's query, or empty.
std::string QueryValue(std::string_view query, std::string_view key);

// Seconds as Go and Google print them: "6s", "1.5s".
std::string SecondsText(double seconds);

}  // namespace simprovider
