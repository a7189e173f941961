#pragma once

// The benchmark's exchange, known to both ends: a question with a number in it, and the answer of
// exactly so many bytes that the mock provider gives to it. Whoever asks can so check every byte.
// Plain functions, safe from any thread.

#include <cstdint>
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

}  // namespace holdfast::bench
