#include "resilience/breaker.h"

#include <algorithm>
#include <utility>

namespace holdfast::resilience {
namespace {

constexpr core::Duration kLeaseGrace = std::chrono::seconds(5);
constexpr core::Duration kMaxRetryAfterOfOpen = std::chrono::seconds(300);

}  // namespace

const char* Name(BreakerState state) {
  switch (state) {
    case BreakerState::kClosed:
      return "closed";
    case BreakerState::kOpen:
      return "open";
    case BreakerState::kHalfOpen:
      return "half_open";
    case BreakerState::kForcedOpen:
      return "forced_open";
    case BreakerState::kForcedClosed:
      return "forced_closed";
  }
  return "unknown";
}

// The permit.

Breaker::Permit::Permit(Breaker* breaker, uint64_t generation, uint64_t id)
    : breaker_(breaker), generation_(generation), id_(id) {}

Breaker::Permit::Permit(Permit&& other) noexcept
    : breaker_(std::exchange(other.breaker_, nullptr)),
      generation_(other.generation_),
      id_(other.id_) {}

Breaker::Permit& Breaker::Permit::operator=(Permit&& other) noexcept {
  if (this == &other) return *this;
  Permit old(std::move(*this));  // unreported, it leaks like any other
  breaker_ = std::exchange(other.breaker_, nullptr);
  generation_ = other.generation_;
  id_ = other.id_;
  return *this;
}

Breaker::Permit::~Permit() { Settle(Verdict::kLeaked); }

void Breaker::Permit::Success() { Settle(Verdict::kSuccess); }

void Breaker::Permit::Failure(std::optional<core::Duration> retry_after) {
  Settle(Verdict::kFailure, retry_after);
}

void Breaker::Permit::Censored() { Settle(Verdict::kCensored); }

void Breaker::Permit::Neutral() { Settle(Verdict::kNeutral); }

void Breaker::Permit::Release() { Settle(Verdict::kReleased); }

void Breaker::Permit::Settle(Verdict verdict, std::optional<core::Duration> retry_after) {
  if (Breaker* breaker = std::exchange(breaker_, nullptr)) {
    breaker->Report(generation_, id_, verdict, retry_after);
  }
}

// The window.

Breaker::Window::Window(core::Duration length, int buckets)
    : length_(length), width_(length / std::max(1, buckets)) {}

void Breaker::Window::Add(core::SteadyTime now, int64_t Counts::* what) {
  while (!buckets_.empty() && now - buckets_.front().start >= length_) buckets_.pop_front();
  if (buckets_.empty() || now - buckets_.back().start >= width_) buckets_.push_back({now, {}});
  ++(buckets_.back().counts.*what);
}

Breaker::Counts Breaker::Window::At(core::SteadyTime now) const {
  Counts sum;
  for (const Bucket& bucket : buckets_) {
    if (now - bucket.start >= length_) continue;
    sum.successes += bucket.counts.successes;
    sum.failures += bucket.counts.failures;
    sum.censored += bucket.counts.censored;
  }
  return sum;
}

// The breaker.

Breaker::Breaker(BreakerOptions options, const core::Clock& clock, core::Random& random,
                 Listener listener)
    : options_(options),
      clock_(clock),
      random_(random),
      listener_(std::move(listener)),
      window_(options.window, options.buckets),
      closed_since_(clock.Now()) {}

std::optional<Breaker::Permit> Breaker::Acquire(core::SteadyTime latest_end) {
  std::unique_lock lock(mutex_);
  if (state_ == BreakerState::kClosed || state_ == BreakerState::kForcedClosed) {
    return Permit(this, generation_, 0);
  }
  if (state_ == BreakerState::kForcedOpen) return std::nullopt;
  const core::SteadyTime now = clock_.Now();
  if (state_ == BreakerState::kOpen) {
    if (now < open_until_) return std::nullopt;
    MoveTo(BreakerState::kHalfOpen, "open_time_over");
  }
  std::erase_if(probes_, [now](const Probe& probe) { return now >= probe.lease_end; });
  if (!HasFreeSlot(now)) return std::nullopt;
  probes_.push_back(
      {++last_probe_id_, core::SaturatingAdd(std::max(latest_end, now), kLeaseGrace)});
  Permit permit(this, generation_, last_probe_id_);
  Deliver(lock);
  return permit;
}

void Breaker::Report(uint64_t generation, uint64_t id, Verdict verdict,
                     std::optional<core::Duration> retry_after) {
  std::unique_lock lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  if (verdict == Verdict::kLeaked) ++leaked_;
  if (generation != generation_ || (id != 0 && !TakeProbe(id, now))) {
    if (verdict != Verdict::kLeaked && verdict != Verdict::kReleased) ++late_results_;
    return;
  }
  if (id != 0) {
    ReportProbe(verdict, now, retry_after);
  } else {
    ReportCall(verdict, now, retry_after);
  }
  Deliver(lock);
}

void Breaker::ReportCall(Verdict verdict, core::SteadyTime now,
                         std::optional<core::Duration> retry_after) {
  switch (verdict) {
    case Verdict::kSuccess:
      window_.Add(now, &Counts::successes);
      consecutive_ = 0;
      break;
    case Verdict::kFailure:
      window_.Add(now, &Counts::failures);
      consecutive_ = ConsecutiveAt(now) + 1;
      last_failure_ = now;
      break;
    case Verdict::kCensored:
      window_.Add(now, &Counts::censored);
      break;
    default:
      return;
  }
  if (state_ != BreakerState::kClosed) return;
  if (const char* reason = TripReason(verdict, now)) {
    step_ = StepAt(now);
    Open(now, reason, retry_after);
  }
}

void Breaker::ReportProbe(Verdict verdict, core::SteadyTime now,
                          std::optional<core::Duration> retry_after) {
  switch (verdict) {
    case Verdict::kSuccess:
      if (++probe_successes_ < options_.half_open_successes) return;
      MoveTo(BreakerState::kClosed, "probes_succeeded");
      StartAfresh(now);
      return;
    case Verdict::kFailure:
      GrowStep();
      return Open(now, "probe_failed", retry_after);
    case Verdict::kCensored:
      return Open(now, "probe_censored", std::nullopt);
    default:
      return;
  }
}

// Frees the probe's slot; false if it had lost it already.
bool Breaker::TakeProbe(uint64_t id, core::SteadyTime now) {
  const auto probe =
      std::find_if(probes_.begin(), probes_.end(), [id](const Probe& p) { return p.id == id; });
  if (probe == probes_.end()) return false;
  const bool in_time = now < probe->lease_end;
  probes_.erase(probe);
  return in_time;
}

const char* Breaker::TripReason(Verdict verdict, core::SteadyTime now) const {
  if (verdict == Verdict::kFailure && options_.consecutive_failures > 0 &&
      consecutive_ >= options_.consecutive_failures) {
    return "consecutive_failures";
  }
  const Counts counts = window_.At(now);
  const int64_t results = counts.successes + counts.failures;
  // A quotient, since it rounds to the same double as the configured decimal; a product may not.
  if (verdict != Verdict::kCensored && options_.failure_rate > 0 && results >= options_.min_calls &&
      static_cast<double>(counts.failures) / static_cast<double>(results) >=
          options_.failure_rate) {
    return "failure_rate";
  }
  if (options_.black_hole > 0 && counts.successes == 0 &&
      counts.failures + counts.censored >= options_.black_hole) {
    return "black_hole";
  }
  return nullptr;
}

void Breaker::MoveTo(BreakerState to, const char* reason) {
  ++generation_;
  probes_.clear();
  probe_successes_ = 0;
  if (to == state_) return;
  if (listener_) events_.push_back({state_, to, reason, generation_});
  state_ = to;
}

void Breaker::Open(core::SteadyTime now, const char* reason,
                   std::optional<core::Duration> retry_after) {
  MoveTo(BreakerState::kOpen, reason);
  core::Duration length = OpenTime(step_);
  if (options_.open_jitter > 0) {
    length = core::Scale(length, 1 + options_.open_jitter * (2 * random_.Uniform() - 1));
  }
  if (retry_after) length = std::max(length, std::min(*retry_after, kMaxRetryAfterOfOpen));
  open_until_ = core::SaturatingAdd(now, length);
}

void Breaker::StartAfresh(core::SteadyTime now) {
  window_.Clear();
  consecutive_ = 0;
  closed_since_ = now;
}

// Not past the step that reaches open_max: more would only make the way back longer.
void Breaker::GrowStep() {
  if (OpenTime(step_) < options_.open_max) ++step_;
}

int Breaker::StepAt(core::SteadyTime now) const {
  if (state_ != BreakerState::kClosed || step_ == 0) return step_;
  return static_cast<int>(
      std::max<int64_t>(0, step_ - (now - closed_since_) / options_.step_decay));
}

core::Duration Breaker::OpenTime(int step) const {
  core::Duration length = options_.open;
  for (int i = 0; i < step && length < options_.open_max; ++i) {
    length = core::SaturatingAdd(length, length);
  }
  return std::min(length, options_.open_max);
}

int Breaker::ConsecutiveAt(core::SteadyTime now) const {
  const core::Duration lifetime = core::SaturatingAdd(options_.window, options_.window);
  return now - last_failure_ >= lifetime ? 0 : consecutive_;
}

int Breaker::ProbesAt(core::SteadyTime when) const {
  return static_cast<int>(std::count_if(probes_.begin(), probes_.end(),
                                        [when](const Probe& p) { return when < p.lease_end; }));
}

bool Breaker::HasFreeSlot(core::SteadyTime when) const {
  return ProbesAt(when) + probe_successes_ < options_.half_open_probes;
}

bool Breaker::WouldAdmit(core::SteadyTime when) const {
  std::lock_guard lock(mutex_);
  switch (state_) {
    case BreakerState::kClosed:
    case BreakerState::kForcedClosed:
      return true;
    case BreakerState::kForcedOpen:
      return false;
    case BreakerState::kOpen:
      return when >= open_until_;
    case BreakerState::kHalfOpen:
      return HasFreeSlot(when);
  }
  return false;
}

core::SteadyTime Breaker::ReadyAt() const {
  std::lock_guard lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  if (state_ == BreakerState::kForcedOpen) return core::SteadyTime::max();
  if (state_ == BreakerState::kOpen) return std::max(now, open_until_);
  if (state_ != BreakerState::kHalfOpen || HasFreeSlot(now)) return now;
  core::SteadyTime earliest = core::SteadyTime::max();
  for (const Probe& probe : probes_) {
    if (now < probe.lease_end) earliest = std::min(earliest, probe.lease_end);
  }
  return earliest;
}

void Breaker::ForceOpen() {
  std::unique_lock lock(mutex_);
  if (state_ == BreakerState::kForcedOpen) return;
  MoveTo(BreakerState::kForcedOpen, "operator");
  Deliver(lock);
}

void Breaker::ForceClosed() {
  std::unique_lock lock(mutex_);
  if (state_ == BreakerState::kForcedClosed) return;
  MoveTo(BreakerState::kForcedClosed, "operator");
  StartAfresh(clock_.Now());
  Deliver(lock);
}

void Breaker::Reset() {
  std::unique_lock lock(mutex_);
  MoveTo(BreakerState::kClosed, "operator");
  StartAfresh(clock_.Now());
  step_ = 0;
  Deliver(lock);
}

BreakerSnapshot Breaker::Snapshot() const {
  std::lock_guard lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  const Counts counts = window_.At(now);
  BreakerSnapshot snapshot;
  snapshot.state = state_;
  snapshot.generation = generation_;
  snapshot.successes = counts.successes;
  snapshot.failures = counts.failures;
  snapshot.censored = counts.censored;
  snapshot.consecutive_failures = ConsecutiveAt(now);
  if (state_ == BreakerState::kOpen && now < open_until_) snapshot.open_for = open_until_ - now;
  snapshot.open_step = StepAt(now);
  snapshot.probes_in_flight = ProbesAt(now);
  snapshot.probe_successes = probe_successes_;
  snapshot.late_results = late_results_;
  snapshot.leaked = leaked_;
  return snapshot;
}

// One thread at a time delivers, also what others queue meanwhile (and what the listener causes):
// that keeps the order without holding the lock.
void Breaker::Deliver(std::unique_lock<std::mutex>& lock) {
  if (delivering_) return;
  delivering_ = true;
  while (!events_.empty()) {
    const BreakerEvent event = std::move(events_.front());
    events_.pop_front();
    lock.unlock();
    listener_(event);
    lock.lock();
  }
  delivering_ = false;
}

}  // namespace holdfast::resilience
