#pragma once

// The benchmark's exchange, known to both ends: a question with a number in it, and the answer of
// exactly so many bytes that the mock provider gives to it. Whoever asks can so check every byte.
// Plain functions, safe from any thread.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace holdfast::bench {

// Distinct questions: none is answered from a cache, and every answer is stored.
inline std::string Question(uint64_t number) {
  return "How many angels fit on pin number " + std::to_string(number) + "?";
}

// Neither needs escaping in JSON.
inline std::string Answer(std::string_view question, size_t bytes) {
  std::string answer = "To \"" + std::string(question) + "\" the answer is this. ";
  for (char& c : answer) c = c == '"' ? '\'' : c;
  constexpr std::string_view kFiller = "The rest is as long as it has to be and no longer. ";
  while (answer.size() < bytes) answer += kFiller;
  answer.resize(bytes);
  return answer;
}

// A token that says when it was sent, on the steady clock that all processes of a machine share.
inline constexpr size_t kStampBytes = 24;
inline std::string Stamp() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  char text[kStampBytes + 1];
  std::snprintf(text, sizeof text, "@%022lld ",
                static_cast<long long>(std::chrono::nanoseconds(now).count()));
  return text;
}

// When the stamp at the start of `text` was sent; none if there is none.
inline std::chrono::steady_clock::time_point ReadStamp(std::string_view text) {
  if (text.size() < kStampBytes || text[0] != '@') return {};
  const std::string number(text.substr(1, kStampBytes - 2));
  return std::chrono::steady_clock::time_point(
      std::chrono::nanoseconds(std::strtoll(number.c_str(), nullptr, 10)));
}

}  // namespace holdfast::bench
