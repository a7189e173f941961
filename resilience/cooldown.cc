#include "resilience/cooldown.h"

#include <algorithm>
#include <utility>

namespace holdfast::resilience {
namespace {

constexpr int kQuarantineAfter = 2;
constexpr core::Duration kFirstQuarantine = std::chrono::minutes(5);
constexpr core::Duration kLongestQuarantine = std::chrono::hours(1);

}  // namespace

void Cooldown::ExtendTo(core::SteadyTime until, std::string reason) {
  std::lock_guard lock(mutex_);
  if (until <= until_.load()) return;
  until_.store(until);
  reason_ = std::move(reason);
}

bool Cooldown::Passed(core::SteadyTime now) const { return now >= until_.load(); }

core::SteadyTime Cooldown::until() const { return until_.load(); }

std::string Cooldown::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

core::Duration CredentialQuarantine::OnAuthFailure() {
  std::lock_guard lock(mutex_);
  row_ = std::min(row_ + 1, 100);
  if (row_ < kQuarantineAfter) return core::Duration::zero();
  core::Duration length = kFirstQuarantine;
  for (int i = kQuarantineAfter; i < row_ && length < kLongestQuarantine; ++i) length *= 2;
  return std::min(length, kLongestQuarantine);
}

void CredentialQuarantine::OnAuthSuccess() {
  std::lock_guard lock(mutex_);
  row_ = 0;
}

}  // namespace holdfast::resilience
