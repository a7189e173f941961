#pragma once

// What a run of the load asks for, and its score: which question comes next, whether its answer is
// right to the byte, and how long it took. One thread.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/exchange.h"

namespace holdfast::bench {

using SteadyClock = std::chrono::steady_clock;

struct Options {
  int port = 0;
  std::string path = "/v1/chat/completions";
  std::string model = "mock";
  std::vector<std::string> headers;
  int connections = 1;
  int in_flight = 0;  // gRPC only; by default one a connection
  double warmup_seconds = 0.5;
  double seconds = 3;
  size_t bytes = 200;
  uint64_t first_question = 0;
  bool once = false;
  size_t tokens = 0;  // 0: a text of `bytes` bytes
};

inline std::chrono::nanoseconds Seconds(double seconds) {
  return std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
}

// What is asked next, and how it went.
class Score {
 public:
  explicit Score(const Options& options)
      : options_(options),
        next_(options.first_question),
        counts_from_(SteadyClock::now() + Seconds(options.once ? 0 : options.warmup_seconds)),
        ends_(counts_from_ + Seconds(options.seconds)) {}

  struct Asked {
    std::string question;
    SteadyClock::time_point at;
  };
  Asked Ask() { return {Question(next_++), SteadyClock::now()}; }
  bool AskMore() const { return !options_.once && SteadyClock::now() < ends_; }

  // Whether `answer` is the one to the question, to the byte.
  void Answered(const Asked& asked, std::string_view answer) {
    if (answer != Answer(asked.question, options_.bytes)) {
      return Failed("another answer than expected: \"" + std::string(answer) + "\"");
    }
    ++answered_;
    const auto now = SteadyClock::now();
    if (!options_.once && (now < counts_from_ || now > ends_)) return;
    micros_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
  }
  // Tokens as they come. `text` is what one read brought; true if it is nothing but tokens.
  bool Tokens(const Asked& asked, size_t already, std::string_view text) {
    const auto now = SteadyClock::now();
    const bool counts = options_.once || (now >= counts_from_ && now <= ends_);
    ++reads_;
    if (already == 0 && counts) {
      first_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
    }
    for (; !text.empty(); text.remove_prefix(std::min(text.size(), kStampBytes))) {
      const auto sent = ReadStamp(text);
      if (sent == SteadyClock::time_point()) return false;
      if (counts) tokens_.push_back(std::chrono::duration<float, std::micro>(now - sent).count());
    }
    return true;
  }
  void AnsweredInTokens(const Asked& asked, std::string_view answer) {
    if (answer.size() != options_.tokens * kStampBytes) {
      return Failed("not " + std::to_string(options_.tokens) + " tokens: " + std::string(answer));
    }
    SteadyClock::time_point last{};
    for (; !answer.empty(); answer.remove_prefix(kStampBytes)) {
      if (ReadStamp(answer) < last) return Failed("tokens in another order than sent");
      last = ReadStamp(answer);
    }
    ++answered_;
    const auto now = SteadyClock::now();
    if (!options_.once && (now < counts_from_ || now > ends_)) return;
    micros_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
  }

  void Failed(const std::string& why) {
    if (failed_++ == 0) first_failure_ = why;
  }

  void Print() {
    const double took = std::chrono::duration<double>(SteadyClock::now() - begun_).count();
    for (auto* samples : {&micros_, &first_, &tokens_}) std::sort(samples->begin(), samples->end());
    for (char& c : first_failure_) c = c == '"' || c == '\\' || c < ' ' ? '\'' : c;
    std::printf(
        "{\"answered\": %zu, \"failed\": %zu, \"counted\": %zu, \"per_second\": %.1f, "
        "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"first_p50_us\": %.1f, "
        "\"first_p99_us\": %.1f, \"token_p50_us\": %.1f, \"token_p99_us\": %.1f, \"tokens\": %zu, "
        "\"reads\": %zu, \"took_s\": %.3f, \"first_failure\": \"%s\"}\n",
        answered_, failed_, micros_.size(), static_cast<double>(micros_.size()) / options_.seconds,
        Percentile(micros_, 0.5), Percentile(micros_, 0.9), Percentile(micros_, 0.99),
        Percentile(first_, 0.5), Percentile(first_, 0.99), Percentile(tokens_, 0.5),
        Percentile(tokens_, 0.99), tokens_.size(), reads_, took,
        first_failure_.substr(0, 500).c_str());
  }

 private:
  static double Percentile(const std::vector<float>& sorted, double part) {
    if (sorted.empty()) return 0;
    return sorted[std::min(sorted.size() - 1,
                           static_cast<size_t>(part * static_cast<double>(sorted.size())))];
  }

  const Options& options_;
  uint64_t next_;
  const SteadyClock::time_point counts_from_;
  const SteadyClock::time_point ends_;
  size_t answered_ = 0;
  size_t failed_ = 0;
  std::string first_failure_;
  std::vector<float> micros_;
  std::vector<float> first_;   // from asking to the first token
  std::vector<float> tokens_;  // from a token's being sent to its being read
  size_t reads_ = 0;
  const SteadyClock::time_point begun_ = SteadyClock::now();
};

}  // namespace holdfast::bench
