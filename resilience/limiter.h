#pragma once

// A concurrency limit for one target: AIMD, driven by drops only (rate limits, overload, our own
// timeouts), never by latency, since that follows the length of the answer. Starts at its maximum.
// x0.9 at most once a second on drops, floor 1; +1 for each limit's worth of successes while the
// calls in flight are at least half of floor(limit). Thread safe.
// Source: AIMD as in Netflix concurrency-limits, which raises while in flight >= limit / 2.

#include <cstdint>
#include <mutex>
#include <optional>

#include "core/clock.h"

namespace holdfast::resilience {

struct LimiterOptions {
  int max = 1000;  // >= 1

  friend bool operator==(const LimiterOptions&, const LimiterOptions&) = default;
};

class Limiter {
 public:
  // A place among the calls in flight. Exactly one of Success, Drop, Ignore; destroyed without one
  // it is ignored. The limiter must outlive it.
  class Permit {
   public:
    Permit(Permit&& other) noexcept;
    Permit& operator=(Permit&& other) noexcept;
    ~Permit();
    void Success();
    void Drop();
    void Ignore();

   private:
    friend class Limiter;
    explicit Permit(Limiter* limiter);
    Limiter* limiter_;
  };

  // `initial`: the limit to start at; default options.max.
  Limiter(LimiterOptions options, const core::Clock& clock,
          std::optional<double> initial = std::nullopt);

  std::optional<Permit> Acquire();
  bool WouldAdmit() const;

  double limit() const;  // floor(limit()) calls may be in flight
  int in_flight() const;
  uint64_t rejected() const;
  const LimiterOptions& options() const { return options_; }

 private:
  enum class Verdict { kSuccess, kDrop, kIgnore };
  void Report(Verdict verdict);
  bool HasRoom() const;
  void Grow();
  void Shrink();

  const LimiterOptions options_;
  const core::Clock& clock_;
  mutable std::mutex mutex_;
  double limit_;
  int in_flight_ = 0;
  uint64_t rejected_ = 0;
  std::optional<core::SteadyTime> last_shrink_;
};

}  // namespace holdfast::resilience
