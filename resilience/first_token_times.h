#pragma once

// How long a target takes to its first content: the last kKept attempts that brought any, for
// hedging. Shared by all loops; thread safe.

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

#include "core/clock.h"

namespace holdfast::resilience {

class FirstTokenTimes {
 public:
  static constexpr size_t kKept = 256;
  static constexpr size_t kEnough = 50;

  void Add(core::Duration time) {
    std::lock_guard lock(mutex_);
    if (times_.size() < kKept) {
      times_.push_back(time);
    } else {
      times_[next_] = time;
      next_ = (next_ + 1) % kKept;
    }
  }

  // The 95th percentile (nearest rank); nothing from fewer than kEnough.
  std::optional<core::Duration> P95() const {
    std::vector<core::Duration> sorted;
    {
      std::lock_guard lock(mutex_);
      if (times_.size() < kEnough) return std::nullopt;
      sorted = times_;
    }
    const size_t rank = (sorted.size() * 95 + 99) / 100 - 1;
    std::ranges::nth_element(sorted, sorted.begin() + static_cast<ptrdiff_t>(rank));
    return sorted[rank];
  }

 private:
  mutable std::mutex mutex_;
  std::vector<core::Duration> times_;
  size_t next_ = 0;  // the oldest, once all places are taken
};

}  // namespace holdfast::resilience
