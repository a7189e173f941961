#include "resilience/backoff.h"

#include <algorithm>

namespace holdfast::resilience {
namespace {

// [0, end); 0 if that is empty.
core::Duration UniformBelow(core::Duration end, core::Random& random) {
  if (end <= core::Duration::zero()) return core::Duration::zero();
  return std::min(core::Scale(end, random.Uniform()), end - core::Duration(1));
}

}  // namespace

core::Duration FullJitter(const BackoffOptions& options, int retry_index, core::Random& random) {
  core::Duration end = options.base;
  for (int i = 0; i < retry_index && core::Duration::zero() < end && end < options.cap; ++i) {
    end = core::SaturatingAdd(end, end);
  }
  return UniformBelow(std::min(end, options.cap), random);
}

core::Duration AfterRetryAfter(core::Duration retry_after, core::Random& random) {
  const core::Duration wait = std::clamp(retry_after, core::Duration::zero(), kMaxRetryAfter);
  return wait + UniformBelow(std::min<core::Duration>(wait / 10, std::chrono::seconds(1)), random);
}

core::Duration AfterCooldown(core::Duration wait, core::Random& random) {
  wait = std::max(wait, core::Duration::zero());
  return core::SaturatingAdd(
      wait, UniformBelow(std::min<core::Duration>(wait, std::chrono::seconds(1)), random));
}

}  // namespace holdfast::resilience
