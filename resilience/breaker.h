#pragma once

// A circuit breaker with three states and operator overrides, one for each target (provider entry
// and model), shared by all routes and loops. Thread safe.
//
//   CLOSED     every call passes; outcomes are counted over a rolling window of 12 buckets
//   OPEN       nothing passes until open_until
//   HALF_OPEN  at most half_open_probes calls at once pass, to try the target out
//
// Trips (CLOSED -> OPEN) on: `consecutive_failures` in a row; a failure rate >= `failure_rate` in
// a window of at least `min_calls` results (success + failure); or a black hole: a window without
// a success in which failures + censored reach `black_hole`.
//
// A Permit belongs to the generation it was granted in. The generation grows on every change of
// state and on reset; a report from another one, or from a probe whose lease has expired, changes
// nothing and counts in late_results. While forced closed, results are counted for the read-out but
// move nothing. The options must be valid (resilience/validate.h). Sources: Nygard, "Release It!"
// (the pattern); resilience4j and Envoy outlier detection (rolling failure rate with a minimum).

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/random.h"

namespace holdfast::resilience {

struct BreakerOptions {
  int consecutive_failures = 5;  // 0 = off
  double failure_rate = 0.5;     // (0, 1]; 0 = off
  core::Duration window = std::chrono::seconds(120);
  int buckets = 12;
  int min_calls = 20;   // >= 1
  int black_hole = 10;  // 0 = off
  core::Duration open = std::chrono::seconds(60);
  core::Duration open_max = std::chrono::seconds(300);
  double open_jitter = 0.1;                               // +- this part of each open time
  int half_open_probes = 1;                               // >= 1
  int half_open_successes = 1;                            // in [1, half_open_probes]
  core::Duration step_decay = std::chrono::seconds(120);  // CLOSED this long: one growth step less

  friend bool operator==(const BreakerOptions&, const BreakerOptions&) = default;
};

enum class BreakerState { kClosed, kOpen, kHalfOpen, kForcedOpen, kForcedClosed };
const char* Name(BreakerState state);  // "closed", "open", "half_open", "forced_open", ...

struct BreakerEvent {
  BreakerState from;
  BreakerState to;
  std::string reason;  // "consecutive_failures", "failure_rate", "black_hole", "probe_failed", ...
  uint64_t generation;
};

struct BreakerSnapshot {
  BreakerState state = BreakerState::kClosed;
  uint64_t generation = 0;
  int64_t successes = 0;  // in the window; what tripped it stays readable until it closes again
  int64_t failures = 0;
  int64_t censored = 0;
  int consecutive_failures = 0;
  core::Duration open_for{};  // until open_until; 0 unless OPEN
  int open_step = 0;          // growth: the next open time is open * 2^open_step
  int probes_in_flight = 0;
  int probe_successes = 0;
  uint64_t late_results = 0;
  uint64_t leaked = 0;
};

class Breaker {
  enum class Verdict { kSuccess, kFailure, kCensored, kNeutral, kReleased, kLeaked };

 public:
  using Listener = std::function<void(const BreakerEvent&)>;

  // Leave to make one call. Move-only. Exactly one of the four reports; destroyed without one it
  // counts as leaked and is neutral. The breaker must outlive it.
  class Permit {
   public:
    Permit(Permit&& other) noexcept;
    Permit& operator=(Permit&& other) noexcept;
    ~Permit();

    void Success();
    void Failure(std::optional<core::Duration> retry_after = std::nullopt);
    void Censored();
    void Neutral();
    // Gives the permit back as if it had never been taken: a later check denied the attempt.
    void Release();

   private:
    friend class Breaker;
    Permit(Breaker* breaker, uint64_t generation, uint64_t id);
    void Settle(Verdict verdict, std::optional<core::Duration> retry_after = std::nullopt);
    Breaker* breaker_;  // null once reported
    uint64_t generation_;
    uint64_t id_;  // of the probe; 0 in CLOSED
  };

  // Events are delivered to `listener` outside the lock, in order; it may call the breaker.
  Breaker(BreakerOptions options, const core::Clock& clock, core::Random& random,
          Listener listener = {});

  // Nothing = denied. `latest_end`: the latest moment at which the call can end; a probe's lease is
  // that + 5 s. An event of another thread may be delivered here, or ours by another thread.
  std::optional<Permit> Acquire(core::SteadyTime latest_end);

  // Whether Acquire would grant at `when`, as far as is known now; takes and changes nothing.
  bool WouldAdmit(core::SteadyTime when) const;
  // The earliest moment at which it would: now, or later; SteadyTime::max() if forced open.
  core::SteadyTime ReadyAt() const;

  void ForceOpen();
  void ForceClosed();
  void Reset();  // CLOSED, empty, no force; the counters late_results and leaked stay

  BreakerSnapshot Snapshot() const;  // mutates nothing
  const BreakerOptions& options() const { return options_; }

 private:
  struct Counts {
    int64_t successes = 0;
    int64_t failures = 0;
    int64_t censored = 0;
  };

  // Counts over the last `length`, in buckets. A bucket starts at its first sample and takes what
  // follows within length / buckets, so a sample leaves at most one bucket early and never late.
  class Window {
   public:
    Window(core::Duration length, int buckets);
    void Add(core::SteadyTime now, int64_t Counts::* what);
    Counts At(core::SteadyTime now) const;
    void Clear() { buckets_.clear(); }

   private:
    struct Bucket {
      core::SteadyTime start;
      Counts counts;
    };
    const core::Duration length_;
    const core::Duration width_;
    std::deque<Bucket> buckets_;
  };

  struct Probe {
    uint64_t id;
    core::SteadyTime lease_end;
  };

  void Report(uint64_t generation, uint64_t id, Verdict verdict,
              std::optional<core::Duration> retry_after);

  // The rest is called under mutex_.
  void ReportCall(Verdict verdict, core::SteadyTime now, std::optional<core::Duration> retry_after);
  void ReportProbe(Verdict verdict, core::SteadyTime now,
                   std::optional<core::Duration> retry_after);
  bool TakeProbe(uint64_t id, core::SteadyTime now);
  const char* TripReason(Verdict verdict, core::SteadyTime now) const;
  void MoveTo(BreakerState to, const char* reason);
  void Open(core::SteadyTime now, const char* reason, std::optional<core::Duration> retry_after);
  void StartAfresh(core::SteadyTime now);
  void GrowStep();
  int StepAt(core::SteadyTime now) const;
  core::Duration OpenTime(int step) const;
  int ConsecutiveAt(core::SteadyTime now) const;
  int ProbesAt(core::SteadyTime when) const;
  bool HasFreeSlot(core::SteadyTime when) const;
  void Deliver(std::unique_lock<std::mutex>& lock);

  const BreakerOptions options_;
  const core::Clock& clock_;
  core::Random& random_;
  const Listener listener_;

  mutable std::mutex mutex_;
  BreakerState state_ = BreakerState::kClosed;
  uint64_t generation_ = 0;
  Window window_;
  int consecutive_ = 0;
  core::SteadyTime last_failure_{};
  core::SteadyTime closed_since_{};
  core::SteadyTime open_until_{};
  int step_ = 0;  // as of closed_since_; StepAt() lets it decay
  std::vector<Probe> probes_;
  uint64_t last_probe_id_ = 0;
  int probe_successes_ = 0;
  uint64_t late_results_ = 0;
  uint64_t leaked_ = 0;
  std::deque<BreakerEvent> events_;
  bool delivering_ = false;  // some thread is in Deliver(), and will deliver what is queued now
};

}  // namespace holdfast::resilience
