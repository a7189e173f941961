#include "resilience/limiter.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace holdfast::resilience {
namespace {

constexpr double kShrink = 0.9;
constexpr core::Duration kShrinkEvery = std::chrono::seconds(1);

}  // namespace

Limiter::Permit::Permit(Limiter* limiter) : limiter_(limiter) {}

Limiter::Permit::Permit(Permit&& other) noexcept
    : limiter_(std::exchange(other.limiter_, nullptr)) {}

Limiter::Permit& Limiter::Permit::operator=(Permit&& other) noexcept {
  if (this == &other) return *this;
  Permit old(std::move(*this));
  limiter_ = std::exchange(other.limiter_, nullptr);
  return *this;
}

Limiter::Permit::~Permit() { Ignore(); }

void Limiter::Permit::Success() {
  if (Limiter* limiter = std::exchange(limiter_, nullptr)) limiter->Report(Verdict::kSuccess);
}

void Limiter::Permit::Drop() {
  if (Limiter* limiter = std::exchange(limiter_, nullptr)) limiter->Report(Verdict::kDrop);
}

void Limiter::Permit::Ignore() {
  if (Limiter* limiter = std::exchange(limiter_, nullptr)) limiter->Report(Verdict::kIgnore);
}

Limiter::Limiter(LimiterOptions options, const core::Clock& clock, std::optional<double> initial)
    : options_(options),
      clock_(clock),
      limit_(std::clamp<double>(initial.value_or(options.max), 1, std::max(1, options.max))) {}

std::optional<Limiter::Permit> Limiter::Acquire() {
  std::lock_guard lock(mutex_);
  if (!HasRoom()) {
    ++rejected_;
    return std::nullopt;
  }
  ++in_flight_;
  return Permit(this);
}

bool Limiter::WouldAdmit() const {
  std::lock_guard lock(mutex_);
  return HasRoom();
}

double Limiter::limit() const {
  std::lock_guard lock(mutex_);
  return limit_;
}

int Limiter::in_flight() const {
  std::lock_guard lock(mutex_);
  return in_flight_;
}

uint64_t Limiter::rejected() const {
  std::lock_guard lock(mutex_);
  return rejected_;
}

void Limiter::Report(Verdict verdict) {
  std::lock_guard lock(mutex_);
  if (verdict == Verdict::kSuccess) Grow();
  if (verdict == Verdict::kDrop) Shrink();
  --in_flight_;
}

bool Limiter::HasRoom() const { return in_flight_ < std::floor(limit_); }

// The call that succeeded is itself still among those in flight.
void Limiter::Grow() {
  if (2.0 * in_flight_ < std::floor(limit_)) return;
  limit_ = std::min<double>(options_.max, limit_ + 1 / limit_);
}

void Limiter::Shrink() {
  const core::SteadyTime now = clock_.Now();
  if (last_shrink_ && now - *last_shrink_ < kShrinkEvery) return;
  last_shrink_ = now;
  limit_ = std::max(1.0, limit_ * kShrink);
}

}  // namespace holdfast::resilience
