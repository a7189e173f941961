#pragma once

// A core::Random whose first draws the test writes down: {0.0, 0.999, 0.5}. After them it gives a
// constant (0.5 unless told otherwise) or the draws of a seed. Safe from any thread.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>

#include "core/check.h"
#include "core/random.h"

namespace holdfast::testing {

class ScriptedRandom final : public core::Random {
 public:
  explicit ScriptedRandom(std::initializer_list<double> draws = {}, double then = 0.5)
      : script_(draws), constant_(then) {}

  static ScriptedRandom Seeded(uint64_t seed, std::initializer_list<double> draws = {}) {
    return ScriptedRandom(seed, draws);
  }

  double Uniform() override {
    std::lock_guard lock(mutex_);
    ++draws_;
    if (script_.empty()) return seeded_ ? seeded_->Uniform() : constant_;
    const double value = script_.front();
    script_.pop_front();
    HOLDFAST_CHECK(value >= 0 && value < 1);
    return value;
  }

  // What is given when the script is at its end.
  void Always(double value) {
    std::lock_guard lock(mutex_);
    constant_ = value;
  }

  // Adds one more draw to the end of the script.
  void Push(double value) {
    std::lock_guard lock(mutex_);
    script_.push_back(value);
  }

  // How many draws were taken in all, and how many of the script are left.
  size_t draws() const {
    std::lock_guard lock(mutex_);
    return draws_;
  }
  size_t left() const {
    std::lock_guard lock(mutex_);
    return script_.size();
  }

 private:
  ScriptedRandom(uint64_t seed, std::initializer_list<double> draws)
      : script_(draws), seeded_(std::make_unique<core::SeededRandom>(seed)) {}

  mutable std::mutex mutex_;
  std::deque<double> script_;
  double constant_ = 0.5;
  std::unique_ptr<core::SeededRandom> seeded_;
  size_t draws_ = 0;
};

}  // namespace holdfast::testing
