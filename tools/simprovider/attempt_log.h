// What reached the simulated provider, attempt by attempt, in a bounded ring. Thread-safe: workers
// write, the admin path reads.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tools/simprovider/http_server.h"

namespace simprovider {

struct Attempt {
  uint64_t sequence = 0;
  int64_t unix_ms = 0;
  double ms = 0;          // since the log began
  std::string_view kind;  // a string that lives for ever
  std::string model;
  std::string path;
  bool streamed = false;
  int status = 0;  // 0: no headers were sent
  std::string fault;
  std::string idempotency_key;
  std::string holdfast_attempt;
  bool authorized = false;  // an API key was given; never the key itself
  uint64_t request_bytes = 0;
  AttemptEnd end = AttemptEnd::kOpen;
  double end_ms = 0;  // since the log began
  uint64_t response_bytes = 0;
};

class AttemptLog {
 public:
  explicit AttemptLog(bool print) : print_(print) {}

  // Stamps the attempt's time and gives it the next number.
  uint64_t Add(Attempt attempt);
  void End(uint64_t sequence, AttemptEnd end, uint64_t response_bytes);
  void Clear();

  // A JSON array, oldest first; an empty model means all. Only attempts numbered above `since`.
  std::string ToJson(std::string_view model, uint64_t since) const;

 private:
  static constexpr size_t kCapacity = 100000;

  double Elapsed() const;

  const bool print_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<Attempt> ring_;  // grows to its capacity, then wraps
  uint64_t last_sequence_ = 0;
  uint64_t first_kept_ = 1;  // what Clear() removed stays removed
};

}  // namespace simprovider
