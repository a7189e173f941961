#pragma once

// The only source of chance. Borrowed by constructor reference; implementations are thread safe.
// Tests script it (tests/fakes/scripted_random.h) or seed it.

#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>

namespace holdfast::core {

class Random {
 public:
  virtual ~Random() = default;

  // Uniform in [0, 1).
  virtual double Uniform() = 0;
};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  static std::unique_ptr<SeededRandom> FromDevice();

  double Uniform() override;

 private:
  std::mutex mutex_;
  std::mt19937_64 engine_;
};

// 26 characters, sortable by time of making: for request and entry ids and idempotency keys.
std::string NewId(Random& random, uint64_t unix_millis);

}  // namespace holdfast::core
